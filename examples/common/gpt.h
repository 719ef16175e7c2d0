/* A GPT over bytes (Radford et al. 2019): pre-norm, learned positions, tanh GELU, untied head. */
#ifndef EXAMPLES_GPT_H
#define EXAMPLES_GPT_H

#include <mpt.h>

/* Network, data and optimizer settings of a training run. */
struct recipe {
  int layers, width, heads, context; /* the network */
  double embedding_std;              /* byte and position tables are drawn from N(0, embedding_std) */
  int batch, steps;                  /* windows a step; steps */
  double learning_rate;              /* of AdamW (0.9, 0.95, epsilon 1e-8) */
  double final_factor;               /* the learning rate falls to this part of it ... */
  int schedule;                      /* ... by MPT_SCHEDULE_COSINE or MPT_SCHEDULE_LINEAR */
  int warmup;                        /* after so many steps of linear warm-up */
  double clip_norm;                  /* of the gradients */
  int pretrain_steps;                /* steps in FP32 on another text before all this; 0: none */
  double pretrain_learning_rate;     /* of these, falling to a tenth by a cosine */
  int64_t training_bytes;            /* only so many bytes of the training part are used; 0: all */
};

#define BYTE_VALUES 256

struct gpt {
  mpt_tensor logits; /* [batch, context, 256], named "logits" */
  mpt_tensor loss;   /* mean cross-entropy per byte, in nats */
};

/* Builds the network with inputs "bytes" and "next", both int32 [batch, context]. Mistakes stay in the model. */
struct gpt gpt_build(mpt_model *model, const struct recipe *recipe);

#endif
