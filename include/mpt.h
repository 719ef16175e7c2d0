/*
 * libmpt: train neural networks in mixed precision from your own program.
 *
 * The method is that of Micikevicius et al., "Mixed Precision Training" (arXiv 1710.03740): activations, weights and
 * gradients live in 16 bits, every sum is formed in FP32, the weights have an FP32 master copy, and the loss is scaled
 * so that small gradients survive FP16. A program describes its network once; libmpt differentiates it, assigns a
 * precision to every tensor, fuses, plans every byte, and then a training step is one pass over a fixed list of kernels.
 *
 *     #include <mpt.h>
 *     #include <stdio.h>
 *     #define TRY(call) do { if ((call) != MPT_OK) { fprintf(stderr, "%s\n", mpt_last_error_message()); return 1; } } while (0)
 *
 *     int main(void) {
 *       static float x[64 * 2]; static int32_t y[64];
 *       for (int i = 0; i < 64; ++i) {                      // four blobs, XOR labels
 *         x[2 * i] = (i & 1) - 0.5f; x[2 * i + 1] = (i >> 1 & 1) - 0.5f; y[i] = (i & 1) ^ (i >> 1 & 1);
 *       }
 *       mpt_context *ctx; mpt_model *m; mpt_params *p; mpt_optimizer *opt; mpt_scaler *sc; mpt_trainer *t;
 *       TRY(mpt_context_create(&ctx, NULL));
 *       TRY(mpt_model_create(&m, ctx));
 *       const int64_t B = mpt_model_dim(m, "batch"), xs[] = {B, 2}, ys[] = {B};
 *       mpt_tensor in = mpt_input(m, "x", MPT_FLOAT32, 2, xs), label = mpt_input(m, "y", MPT_INT32, 1, ys);
 *       mpt_tensor h = mpt_tanh(m, mpt_linear(m, "fc1", in, 16, NULL));
 *       mpt_tensor loss = mpt_cross_entropy(m, mpt_linear(m, "fc2", h, 2, NULL), label, NULL);
 *       mpt_params_options po; mpt_params_options_init(&po, sizeof po); po.precision = MPT_PRECISION_FP16;
 *       mpt_optimizer_options oo; mpt_optimizer_options_init(&oo, sizeof oo); oo.learning_rate = 0.02;
 *       TRY(mpt_params_create(&p, m, &po));                 // reports any mistake made while building the model
 *       TRY(mpt_optimizer_create(&opt, p, &oo));
 *       TRY(mpt_scaler_create(&sc, ctx, NULL));
 *       TRY(mpt_trainer_create(&t, loss, p, opt, sc, NULL));
 *       mpt_array batch[] = {{.name = "x", .data = x, .dtype = MPT_FLOAT32, .rank = 2, .shape = {64, 2}},
 *                            {.name = "y", .data = y, .dtype = MPT_INT32, .rank = 1, .shape = {64}}};
 *       for (int i = 0; i < 200; ++i) {
 *         mpt_step_result r; mpt_step_result_init(&r, sizeof r);
 *         TRY(mpt_trainer_step(t, batch, 2, &r));
 *         if (i % 50 == 49) printf("step %d loss %.4f scale %g\n", i + 1, r.loss, r.scale);
 *       }
 *       TRY(mpt_trainer_save(t, "xor.safetensors"));
 *       mpt_trainer_destroy(t); mpt_scaler_destroy(sc); mpt_optimizer_destroy(opt);
 *       mpt_params_destroy(p); mpt_model_destroy(m); mpt_context_destroy(ctx);
 *       return 0;
 *     }
 *
 * Conventions, kept everywhere:
 *  - Functions that can fail return mpt_status; 0 is success. mpt_last_error_message() tells what was found and expected.
 *    On failure `*out` is NULL and every object is as it was, unless the function says otherwise.
 *  - Op functions return a tensor id and 0 on a mistake; the model keeps the first mistake, later ops pass 0 through
 *    silently, and mpt_model_check or any function that compiles the model returns it. No check per line is needed.
 *  - Option and result structs begin with struct_size. mpt_x_init(&o, sizeof o) writes the real defaults; afterwards zero
 *    means zero. NULL options mean all defaults.
 *  - Handles may be destroyed in any order; a child keeps what it uses alive. mpt_x_destroy(NULL) does nothing. Nothing that
 *    the library returns is freed by the caller. Text comes back as (buffer, capacity, out_needed): at most `capacity` bytes
 *    are written, always ended by NUL if capacity > 0; out_needed (may be NULL) receives the bytes needed, NUL included.
 *  - One context and its children serve one thread at a time, any thread; a second thread gets MPT_ERROR_INVALID_STATE.
 *    Different contexts run at the same time. mpt_trainer_cancel and all destroy functions may be called from any thread.
 *  - Names given as `const char *` are UTF-8, NUL-terminated, copied by the library.
 *  - Arrays are host memory, row-major, unless said otherwise. The library prints nothing.
 *  - Inside a call the floating-point mode is the default one (round to nearest, subnormals kept, no traps), callbacks
 *    included; afterwards the caller's is back, with its flags, and so is errno. Signals and locale are not touched.
 */
#ifndef MPT_H
#define MPT_H

#include <stddef.h>
#include <stdint.h>

#define MPT_VERSION_MAJOR 0
#define MPT_VERSION_MINOR 1
#define MPT_VERSION_PATCH 0

#if defined(SWIG) || defined(MPT_STATIC)
#define MPT_API
#elif defined(__GNUC__)
#define MPT_API __attribute__((visibility("default")))
#else
#define MPT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------- status and versions */

/** Result of every fallible call. The numbers never change. */
typedef int32_t mpt_status;
#define MPT_OK 0
#define MPT_ERROR_INVALID_ARGUMENT (-1)     /**< An argument is wrong: the message names it, found and expected. */
#define MPT_ERROR_INVALID_STATE (-2)        /**< The call does not fit the object's state or its context is busy. */
#define MPT_ERROR_UNSUPPORTED (-3)          /**< This build, device or driver cannot do it. */
#define MPT_ERROR_OUT_OF_MEMORY (-4)        /**< Host memory ran out; objects are as before. */
#define MPT_ERROR_DEVICE_OUT_OF_MEMORY (-5) /**< Device memory ran out; objects are as before. */
#define MPT_ERROR_DEVICE (-6)               /**< The device reported an error. */
#define MPT_ERROR_DEVICE_LOST (-7)          /**< The device is gone: only destroy is valid on its context. */
#define MPT_ERROR_NUMERIC (-8)              /**< Training cannot go on: non-finite values at the scale's floor. */
#define MPT_ERROR_CORRUPT (-9)              /**< A file is damaged, truncated or of another kind. */
#define MPT_ERROR_IO (-10)                  /**< The operating system refused a file operation. */
#define MPT_ERROR_COMM (-11)                /**< Communication between ranks failed. */
#define MPT_ERROR_CANCELLED (-12)           /**< mpt_trainer_cancel or a callback stopped the call. */
#define MPT_ERROR_INTERNAL (-13)            /**< A bug in libmpt: please report the message. */

/** "MPT_ERROR_IO" for MPT_ERROR_IO; "unknown status" for other numbers. Never NULL; lives for ever. */
MPT_API const char *mpt_status_name(mpt_status status);
/** What went wrong in this thread's last call that failed; "" if the last call succeeded. Never NULL; valid until the
 *  thread's next call into the library. Getters that return void or a plain value, and destroy, leave it alone. */
MPT_API const char *mpt_last_error_message(void);
/** "0.1.0" of the library in use at run time. Lives for ever. */
MPT_API const char *mpt_version(void);
/** One line on backends, instruction sets found and the versions of libraries in use. Lives for ever. */
MPT_API const char *mpt_build_info(void);

/* ---------------------------------------------------------------------------------------------------- data and types */

#define MPT_MAX_RANK 8

/** Element types. */
typedef int32_t mpt_dtype;
#define MPT_FLOAT32 1
#define MPT_FLOAT16 2 /**< IEEE binary16, subnormals kept */
#define MPT_BFLOAT16 3
#define MPT_FLOAT64 4
#define MPT_INT32 5
#define MPT_INT64 6
#define MPT_UINT8 7

/** Size of one element in bytes; 0 for a number that is no dtype. */
MPT_API uint64_t mpt_dtype_size(mpt_dtype dtype);
/** "float16" and so on; "unknown" for a number that is no dtype. Lives for ever. */
MPT_API const char *mpt_dtype_name(mpt_dtype dtype);

/** Precision of a parameter store and of every step that trains it. */
typedef int32_t mpt_precision;
#define MPT_PRECISION_FP32 1 /**< everything in FP32 */
#define MPT_PRECISION_FP16 2 /**< the paper's method: FP16 storage, FP32 sums, FP32 master weights, loss scaling */
#define MPT_PRECISION_BF16 3 /**< BF16 storage, FP32 sums, FP32 master weights; no scaling needed */

/** Where an array's memory is. */
#define MPT_DEVICE_CPU 0
#define MPT_DEVICE_CUDA 1

/** Describes memory that the caller owns; the library keeps no pointer to it after the call. */
typedef struct mpt_array {
  const char *name; /**< which input or tensor it is; NULL where the function names it otherwise */
  void *data;       /**< first element; may be NULL if a size is 0; inputs are only read */
  mpt_dtype dtype;
  int32_t rank; /**< 0 (a scalar) to MPT_MAX_RANK */
  int64_t shape[MPT_MAX_RANK];
  int64_t strides[MPT_MAX_RANK]; /**< in elements; all zero means dense and row-major */
  int32_t device_type;           /**< MPT_DEVICE_CPU or MPT_DEVICE_CUDA */
  int32_t device_index;
} mpt_array;

/* ----------------------------------------------------------------------------------------------------------- context */

typedef struct mpt_context mpt_context;     /**< a device, its threads, allocator and log */
typedef struct mpt_model mpt_model;         /**< a network as described: ops, shapes, named dimensions */
typedef struct mpt_params mpt_params;       /**< FP32 master weights, 16-bit copies, gradients */
typedef struct mpt_workspace mpt_workspace; /**< memory for activations, their gradients and scratch */
typedef struct mpt_scaler mpt_scaler;       /**< loss-scaler state */
typedef struct mpt_optimizer mpt_optimizer; /**< moments, groups, schedule, averages */
typedef struct mpt_plan mpt_plan;           /**< a model compiled for shapes, a precision and a device */
typedef struct mpt_trainer mpt_trainer;     /**< runs steps: plans, workspace, objectives */

/** Memory functions of the host program. `allocate` returns memory aligned to `alignment` (a power of two, at most 4096) or
 *  NULL; `release` is called once, after the last child of the context is gone. All may be called from any thread. */
typedef struct mpt_allocator {
  uint32_t struct_size;
  void *(*allocate)(void *user, uint64_t bytes, uint64_t alignment);
  void (*deallocate)(void *user, void *pointer, uint64_t bytes);
  void (*release)(void *user); /**< may be NULL */
  void *user;
} mpt_allocator;

#define MPT_LOG_DEBUG 0
#define MPT_LOG_INFO 1
#define MPT_LOG_WARNING 2
/** Receives what the library has to tell. May be called from any thread that is inside a call; must not throw. */
typedef void (*mpt_log_function)(void *user, int32_t level, const char *text);

typedef struct mpt_context_options {
  uint32_t struct_size;
  int32_t threads;    /**< of this context on the CPU, the caller's included; 0 (default): one per core it may use */
  uint64_t seed;      /**< of initialisers and dropout; default 0 */
  const char *device; /**< "cpu" (default, also NULL); "cuda:0": that NVIDIA GPU, by libmpt_cuda.so ("cuda" is
                                       the first); "reference": double arithmetic, slow, for checks; "null:" before one of
                                       these: compiles and plans as it would, with as many threads, runs nothing and has
                                       memory without end; "null": "null:cpu" */
  const mpt_allocator *allocator; /**< copied; NULL: the C library's */
  mpt_log_function log;           /**< NULL: nothing is told */
  void *log_user;
  int32_t log_level; /**< least level passed to `log`; default MPT_LOG_INFO */
} mpt_context_options;

MPT_API mpt_status mpt_context_options_init(mpt_context_options *options, uint64_t struct_size);
MPT_API mpt_status mpt_allocator_init(mpt_allocator *allocator, uint64_t struct_size);
/** Creates a context. Worker threads start with the first work that needs them; they are oneTBB's, shared by all contexts of
 *  the process and by a host that uses oneTBB itself, sleep when there is nothing to do, and may outlive the last context.
 *  @return INVALID_ARGUMENT, UNSUPPORTED (no such device in this build), OUT_OF_MEMORY */
MPT_API mpt_status mpt_context_create(mpt_context **out, const mpt_context_options *options);
MPT_API void mpt_context_destroy(mpt_context *context);
/** Waits for all work of the context and returns a device error that has not been reported yet. */
MPT_API mpt_status mpt_context_synchronize(mpt_context *context);
/** Number of threads the context uses; 0 for NULL. */
MPT_API int32_t mpt_context_threads(const mpt_context *context);
/** "cpu", "cuda:0" and so on, as it was given; "" for NULL. Valid as long as the context. */
MPT_API const char *mpt_context_device(const mpt_context *context);

/* ------------------------------------------------------------------------------------------------- model and tensors */

/** Id of a tensor of a model; 0 means none. */
typedef int32_t mpt_tensor;

MPT_API mpt_status mpt_model_create(mpt_model **out, mpt_context *context);
MPT_API void mpt_model_destroy(mpt_model *model);
/** The first mistake made while building, as status and message; MPT_OK if there is none. */
MPT_API mpt_status mpt_model_check(mpt_model *model);
/** Forgets the mistake; the model is what it was before it and can be built on. */
MPT_API mpt_status mpt_model_clear_error(mpt_model *model);
/** A size that is known only later, by name. Returns a negative number that stands for it in shapes; the same name is the
 *  same size. 0 on a mistake. Fixed when the model is compiled for actual shapes; parameters may not depend on one. */
MPT_API int64_t mpt_model_dim(mpt_model *model, const char *name);
/** Names a tensor, so that it can be fetched and errors can name it. Names are unique in a model. Returns `tensor`. */
MPT_API mpt_tensor mpt_model_set_name(mpt_model *model, mpt_tensor tensor, const char *name);
/** The tensor of that name; 0 if there is none (no mistake is recorded). */
MPT_API mpt_tensor mpt_model_find(const mpt_model *model, const char *name);
/** Shape of a tensor; named dimensions are negative. @param out_shape MPT_MAX_RANK numbers */
MPT_API mpt_status mpt_model_tensor_shape(const mpt_model *model, mpt_tensor tensor, int64_t *out_shape,
                                          int32_t *out_rank);
/** The graph as text, a line per op. */
MPT_API mpt_status mpt_model_dump(const mpt_model *model, char *buffer, uint64_t capacity, uint64_t *out_needed);

/** Classes of ops for precision overrides. */
#define MPT_CLASS_MATMUL 1      /**< matrix multiply, linear, attention, embedding */
#define MPT_CLASS_REDUCTION 2   /**< softmax, norms, sums, means, losses */
#define MPT_CLASS_ELEMENTWISE 3 /**< arithmetic and activations */
#define MPT_CLASS_SHAPE 4       /**< reshape, transpose, concat and the like */
/** Keeps what an op writes (and the gradients of it) in FP32 whatever the precision; a matrix multiply then reads FP32 master
 *  weights. `name` is the op's, as mpt_model_dump prints it. `dtype`: MPT_FLOAT32, or 0 for the precision's own rule. */
MPT_API mpt_status mpt_model_set_op_dtype(mpt_model *model, const char *name, mpt_dtype dtype);
/** The same for all ops of a class. */
MPT_API mpt_status mpt_model_set_class_dtype(mpt_model *model, int32_t op_class, mpt_dtype dtype);

/* ---- sources ---- */

/** A tensor given anew at every step. @param dtype MPT_FLOAT32 (any float type: storage is the precision's) or MPT_INT32
 *  (indices, labels) or MPT_UINT8 (masks). Sizes may be named dimensions. */
MPT_API mpt_tensor mpt_input(mpt_model *model, const char *name, mpt_dtype dtype, int32_t rank, const int64_t *shape);
/** Makes a float input accept uint8 pictures as (value - mean[c]) / std[c], c counted along `axis`.
 *  @param mean,std `channels` numbers in units of the uint8 values; std > 0. Other dtypes are taken as they are. */
MPT_API mpt_status mpt_input_normalize(mpt_model *model, mpt_tensor input, int32_t axis, int32_t channels,
                                       const float *mean, const float *std);
/** A tensor with fixed contents, copied from `array` (float or int32). Not trained. */
MPT_API mpt_tensor mpt_constant(mpt_model *model, const mpt_array *array);

/** Initialisers of parameters. Random ones depend on the seed and the parameter's name only. */
typedef int32_t mpt_initializer;
#define MPT_INIT_DEFAULT 0 /**< the layer's own default */
#define MPT_INIT_ZEROS 1
#define MPT_INIT_CONSTANT 2         /**< a */
#define MPT_INIT_NORMAL 3           /**< mean a, standard deviation b */
#define MPT_INIT_UNIFORM 4          /**< in [a, b) */
#define MPT_INIT_XAVIER_UNIFORM 5   /**< +-sqrt(6 / (fan_in + fan_out)) * a; Glorot and Bengio 2010 */
#define MPT_INIT_XAVIER_NORMAL 6    /**< std sqrt(2 / (fan_in + fan_out)) * a */
#define MPT_INIT_KAIMING_UNIFORM 7  /**< +-a * sqrt(3 / fan_in); a is the gain; He et al. 2015 */
#define MPT_INIT_KAIMING_NORMAL 8   /**< std a / sqrt(fan_in) */
#define MPT_INIT_TRUNCATED_NORMAL 9 /**< mean a, standard deviation b, redrawn outside a +- 2 b */

typedef struct mpt_param_options {
  uint32_t struct_size;
  mpt_initializer initializer; /**< default MPT_INIT_ZEROS */
  double a, b;                 /**< the initialiser's numbers; default 0, 1 (Xavier, Kaiming: 0 means 1) */
  int32_t keep_fp32;           /**< 1: used and differentiated in FP32 in every precision; default 0 */
} mpt_param_options;
MPT_API mpt_status mpt_param_options_init(mpt_param_options *options, uint64_t struct_size);
/** A trained tensor, free-standing (a learned position table, say). All sizes must be known. A name used before with
 *  the same shape is the same parameter: that ties weights. */
MPT_API mpt_tensor mpt_param(mpt_model *model, const char *name, int32_t rank, const int64_t *shape,
                             const mpt_param_options *options);

/* ---- matrix multiply ---- */

/** a [.., M, K] times b [.., K, N] -> [.., M, N]; leading axes broadcast. transpose_a: a is [.., K, M]; transpose_b: b is
 *  [.., N, K]. Products of the stored values, sums in FP32, one rounding. */
MPT_API mpt_tensor mpt_matmul(mpt_model *model, mpt_tensor a, mpt_tensor b, int32_t transpose_a, int32_t transpose_b);

typedef struct mpt_linear_options {
  uint32_t struct_size;
  int32_t bias;                       /**< default 1 */
  mpt_initializer weight_initializer; /**< default MPT_INIT_DEFAULT: uniform +-1/sqrt(in) as PyTorch's Linear */
  double weight_a, weight_b;
  mpt_initializer bias_initializer; /**< default MPT_INIT_DEFAULT: uniform +-1/sqrt(in) */
  double bias_a, bias_b;
} mpt_linear_options;
MPT_API mpt_status mpt_linear_options_init(mpt_linear_options *options, uint64_t struct_size);
/** x [.., in] -> [.., features]: x W^T + bias. Parameters: name.weight [features, in], name.bias [features]. */
MPT_API mpt_tensor mpt_linear(mpt_model *model, const char *name, mpt_tensor x, int64_t features,
                              const mpt_linear_options *options);

/* ---- element-wise; shapes broadcast as in NumPy ---- */

MPT_API mpt_tensor mpt_add(mpt_model *model, mpt_tensor a, mpt_tensor b);
MPT_API mpt_tensor mpt_sub(mpt_model *model, mpt_tensor a, mpt_tensor b);
MPT_API mpt_tensor mpt_mul(mpt_model *model, mpt_tensor a, mpt_tensor b);
MPT_API mpt_tensor mpt_div(mpt_model *model, mpt_tensor a, mpt_tensor b);
/** factor * x + offset. */
MPT_API mpt_tensor mpt_scale(mpt_model *model, mpt_tensor x, double factor, double offset);
MPT_API mpt_tensor mpt_relu(mpt_model *model, mpt_tensor x);
MPT_API mpt_tensor mpt_leaky_relu(mpt_model *model, mpt_tensor x, double slope);
/** x * Phi(x), Phi the normal distribution's function (by erf). */
MPT_API mpt_tensor mpt_gelu(mpt_model *model, mpt_tensor x);
/** 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); Hendrycks and Gimpel 2016. */
MPT_API mpt_tensor mpt_gelu_tanh(mpt_model *model, mpt_tensor x);
/** x * sigmoid(x). */
MPT_API mpt_tensor mpt_silu(mpt_model *model, mpt_tensor x);
MPT_API mpt_tensor mpt_sigmoid(mpt_model *model, mpt_tensor x);
MPT_API mpt_tensor mpt_tanh(mpt_model *model, mpt_tensor x);
MPT_API mpt_tensor mpt_exp(mpt_model *model, mpt_tensor x);
MPT_API mpt_tensor mpt_log(mpt_model *model, mpt_tensor x);
MPT_API mpt_tensor mpt_sqrt(mpt_model *model, mpt_tensor x);
MPT_API mpt_tensor mpt_square(mpt_model *model, mpt_tensor x);
/** min(max(x, low), high); the gradient is 0 outside, passes at the ends. low <= high. */
MPT_API mpt_tensor mpt_clamp(mpt_model *model, mpt_tensor x, double low, double high);
/** Keeps each element with probability 1 - rate and multiplies it by 1 / (1 - rate), in training only. 0 <= rate < 1.
 *  The mask is Philox4x32-10 of (seed, op, applied step, micro-step, rank, element). */
MPT_API mpt_tensor mpt_dropout(mpt_model *model, mpt_tensor x, double rate);
/** x, with no gradient flowing back. */
MPT_API mpt_tensor mpt_stop_gradient(mpt_model *model, mpt_tensor x);

/* ---- softmax, norms, attention, embedding ---- */

MPT_API mpt_tensor mpt_softmax(mpt_model *model, mpt_tensor x, int32_t axis);
MPT_API mpt_tensor mpt_log_softmax(mpt_model *model, mpt_tensor x, int32_t axis);

typedef struct mpt_norm_options {
  uint32_t struct_size;
  double epsilon; /**< default 1e-5 */
  int32_t scale;  /**< multiply by name.weight (initially 1); default 1 */
  int32_t shift;  /**< add name.bias (initially 0); default 1; RMS norm has none */
} mpt_norm_options;
MPT_API mpt_status mpt_norm_options_init(mpt_norm_options *options, uint64_t struct_size);
/** Over the last axis: (x - mean) / sqrt(var + epsilon) * weight + bias; Ba et al. 2016. Parameters name.weight, name.bias,
 *  both FP32 in every precision; statistics in FP32. */
MPT_API mpt_tensor mpt_layer_norm(mpt_model *model, const char *name, mpt_tensor x, const mpt_norm_options *options);
/** Over the last axis: x / sqrt(mean(x^2) + epsilon) * weight; Zhang and Sennrich 2019. Parameter name.weight, FP32. */
MPT_API mpt_tensor mpt_rms_norm(mpt_model *model, const char *name, mpt_tensor x, const mpt_norm_options *options);

typedef struct mpt_attention_options {
  uint32_t struct_size;
  int32_t causal;         /**< 1: position i sees keys 0 .. i; default 0. Query and key lengths must then be equal. */
  double scale;           /**< of q k^T; default 0: 1 / sqrt(head size) */
  mpt_tensor mask;        /**< uint8 input, 1: may be seen; [T, S], [B, T, S] or [B, H, T, S]; default 0: none */
  mpt_tensor key_lengths; /**< int32 input [B]: keys from there on are not seen; default 0: none */
  int32_t kv_heads;       /**< fewer heads of keys and values, shared by groups of query heads; default 0: as `heads` */
} mpt_attention_options;
MPT_API mpt_status mpt_attention_options_init(mpt_attention_options *options, uint64_t struct_size);
/** Scaled dot-product attention of several heads: q [B, T, heads * D], k and v [B, S, kv_heads * D] -> [B, T, heads * D].
 *  softmax(scale q k^T + mask) v per head; Vaswani et al. 2017. The T x S scores are never stored whole. A row that sees no
 *  key gives zeros. */
MPT_API mpt_tensor mpt_attention(mpt_model *model, mpt_tensor q, mpt_tensor k, mpt_tensor v, int32_t heads,
                                 const mpt_attention_options *options);
/** Self-attention layer as PyTorch's MultiheadAttention: one projection to q, k, v, attention, output projection.
 *  x [B, T, C] -> [B, T, C]. Parameters: name.in_proj_weight [3 C, C], name.in_proj_bias [3 C], name.out_proj.weight [C, C],
 *  name.out_proj.bias [C]. kv_heads must be 0 or heads. `linear`: initialisers and bias of both projections; may be NULL. */
MPT_API mpt_tensor mpt_multi_head_attention(mpt_model *model, const char *name, mpt_tensor x, int32_t heads,
                                            const mpt_attention_options *options, const mpt_linear_options *linear);

typedef struct mpt_embedding_options {
  uint32_t struct_size;
  mpt_initializer initializer; /**< default MPT_INIT_NORMAL */
  double a, b;                 /**< default 0, 1 */
} mpt_embedding_options;
MPT_API mpt_status mpt_embedding_options_init(mpt_embedding_options *options, uint64_t struct_size);
/** Rows of a table: indices [..] int32 -> [.., features]. Parameter name.weight [count, features]. An index outside
 *  [0, count) fails the step with INVALID_ARGUMENT before anything is changed. */
MPT_API mpt_tensor mpt_embedding(mpt_model *model, const char *name, mpt_tensor indices, int64_t count,
                                 int64_t features, const mpt_embedding_options *options);
/** The tensor of a parameter by name, for tied weights: mpt_matmul(m, h, mpt_model_param(m, "tok.weight"), 0, 1). */
MPT_API mpt_tensor mpt_model_param(mpt_model *model, const char *name);

/* ---- shape; no arithmetic ---- */

/** One size may be -1: the rest. */
MPT_API mpt_tensor mpt_reshape(mpt_model *model, mpt_tensor x, int32_t rank, const int64_t *shape);
/** @param axes a permutation of 0 .. rank-1; NULL reverses. */
MPT_API mpt_tensor mpt_transpose(mpt_model *model, mpt_tensor x, const int32_t *axes);
/** Elements [begin, end) along an axis; negative positions count from the end of a known size. */
MPT_API mpt_tensor mpt_slice(mpt_model *model, mpt_tensor x, int32_t axis, int64_t begin, int64_t end);
MPT_API mpt_tensor mpt_concat(mpt_model *model, int32_t count, const mpt_tensor *tensors, int32_t axis);
/** Picks along an axis: out[.., i.., ..] = x[.., indices[i..], ..]; indices int32 of any rank. Out of range: as embedding. */
MPT_API mpt_tensor mpt_gather(mpt_model *model, mpt_tensor x, mpt_tensor indices, int32_t axis);
/** Adds `before` and `after` elements of `value` at both ends of an axis. */
MPT_API mpt_tensor mpt_pad(mpt_model *model, mpt_tensor x, int32_t axis, int64_t before, int64_t after, double value);

/* ---- reductions ---- */

/** Over `count` axes (0: all). keep: reduced axes stay with size 1. A result of one element is FP32 in every precision. */
MPT_API mpt_tensor mpt_sum(mpt_model *model, mpt_tensor x, int32_t count, const int32_t *axes, int32_t keep);
MPT_API mpt_tensor mpt_mean(mpt_model *model, mpt_tensor x, int32_t count, const int32_t *axes, int32_t keep);
/** The gradient goes to the first of equal elements. */
MPT_API mpt_tensor mpt_max(mpt_model *model, mpt_tensor x, int32_t count, const int32_t *axes, int32_t keep);

/* ---- losses; FP32 scalars ---- */

#define MPT_REDUCE_MEAN 0
#define MPT_REDUCE_SUM 1
typedef struct mpt_loss_options {
  uint32_t struct_size;
  int32_t reduction;      /**< MPT_REDUCE_MEAN (default) or MPT_REDUCE_SUM */
  double label_smoothing; /**< cross-entropy: weight of the uniform distribution, in [0, 1); default 0 */
  int32_t ignore_index;   /**< cross-entropy: rows with this label count nothing; default -100 */
} mpt_loss_options;
MPT_API mpt_status mpt_loss_options_init(mpt_loss_options *options, uint64_t struct_size);
/** Softmax cross-entropy over class indices: logits [.., classes], labels [..] int32. The mean is over rows not ignored; 0 if
 *  all are. Labels outside [0, classes) other than ignore_index fail the step with INVALID_ARGUMENT. */
MPT_API mpt_tensor mpt_cross_entropy(mpt_model *model, mpt_tensor logits, mpt_tensor labels,
                                     const mpt_loss_options *options);
/** mean or sum of (x - target)^2; no gradient flows to `target` unless it needs one. Shapes must be equal. */
MPT_API mpt_tensor mpt_mse_loss(mpt_model *model, mpt_tensor x, mpt_tensor target, const mpt_loss_options *options);
/** mean or sum of |x - target|; the derivative at 0 is 0. */
MPT_API mpt_tensor mpt_l1_loss(mpt_model *model, mpt_tensor x, mpt_tensor target, const mpt_loss_options *options);
/** Binary cross-entropy on logits: max(x, 0) - x t + log(1 + exp(-|x|)), targets in [0, 1]. */
MPT_API mpt_tensor mpt_bce_loss(mpt_model *model, mpt_tensor logits, mpt_tensor target,
                                const mpt_loss_options *options);

/* ---- custom ops ---- */
/** Functions of a custom op. Arrays are in the step's storage types (16 bits in fp16 and bf16, unless fp32 is set), on the CPU
 *  host pointers with a NULL `stream`; on CUDA device pointers, and the functions only enqueue, on the cudaStream_t `stream`,
 *  once for a step that is recorded. They run on the thread that runs the step; return 0, or a number that fails the step
 *  with INVALID_STATE and is told in the message. They may not call the context's functions that compute. */
typedef int32_t (*mpt_custom_forward)(void *user, const mpt_array *inputs, int32_t n_inputs, mpt_array *outputs,
                                      int32_t n_outputs, void *scratch, void *stream);
/** Writes input_gradients (data is NULL for inputs that need none) from the output gradients, which carry the loss scale. */
typedef int32_t (*mpt_custom_backward)(void *user, const mpt_array *inputs, int32_t n_inputs, const mpt_array *outputs,
                                       const mpt_array *output_gradients, int32_t n_outputs, mpt_array *input_gradients,
                                       void *scratch, void *stream);
typedef struct mpt_custom_options {
  uint32_t struct_size;
  const char *name; /**< shown in dumps and messages */
  mpt_custom_forward forward;
  mpt_custom_backward backward; /**< NULL: no gradient flows back */
  void *user;                   /**< must live as long as the model and everything made from it */
  uint64_t scratch_bytes;       /**< planned and handed to both functions; default 0 */
  int32_t fp32;                 /**< 1: outputs and their gradients are stored in FP32; default 0 */
} mpt_custom_options;
MPT_API mpt_status mpt_custom_options_init(mpt_custom_options *options, uint64_t struct_size);
/** An op of the caller's. Output i has rank out_ranks[i] and its sizes follow one another in out_shapes (named dimensions are
 *  allowed). @param out_tensors receives n_outputs ids. Returns out_tensors[0]. */
MPT_API mpt_tensor mpt_custom(mpt_model *model, int32_t n_inputs, const mpt_tensor *inputs, int32_t n_outputs,
                              const int32_t *out_ranks, const int64_t *out_shapes, const mpt_custom_options *options,
                              mpt_tensor *out_tensors);

/* -------------------------------------------------------------------------------------------------------- parameters */

typedef struct mpt_params_options {
  uint32_t struct_size;
  mpt_precision precision; /**< default MPT_PRECISION_FP32 */
  int32_t no_master; /**< ablation of the paper's section 3.1: FP16 weights only, w = round16(w + update); default 0 */
  mpt_dtype gradient_dtype; /**< default 0: the precision's; MPT_FLOAT32 keeps weight gradients in FP32 */
} mpt_params_options;
MPT_API mpt_status mpt_params_options_init(mpt_params_options *options, uint64_t struct_size);
/** All parameters of a model, initialised from the context's seed. Later parameters of the model are not in it.
 *  @return the model's first mistake if there is one; INVALID_ARGUMENT, OUT_OF_MEMORY */
MPT_API mpt_status mpt_params_create(mpt_params **out, mpt_model *model, const mpt_params_options *options);
/** An empty store for a program with gradients of its own: mpt_params_register, then mpt_params_allocate. */
MPT_API mpt_status mpt_params_create_empty(mpt_params **out, mpt_context *context, const mpt_params_options *options);
MPT_API void mpt_params_destroy(mpt_params *params);
/** Adds a tensor to a store made by mpt_params_create_empty. @return INVALID_STATE after mpt_params_allocate */
MPT_API mpt_status mpt_params_register(mpt_params *params, const char *name, int32_t rank, const int64_t *shape,
                                       const mpt_param_options *options);
/** Uses memory of the caller's for a registered tensor instead of the store's: dense, 64-byte aligned or not, alive as long as
 *  the store. `copy16` and `gradient` have the dtypes that mpt_params_tensor reports; NULL leaves that part to the store. */
MPT_API mpt_status mpt_params_use_buffers(mpt_params *params, const char *name, void *copy16, void *gradient);
/** Allocates and initialises what was registered. */
MPT_API mpt_status mpt_params_allocate(mpt_params *params);
/** Number of tensors; 0 for NULL. */
MPT_API int32_t mpt_params_count(const mpt_params *params);
/** Name of tensor `index` in order of creation; NULL outside the range. Valid as long as the store. */
MPT_API const char *mpt_params_name(const mpt_params *params, int32_t index);

/** Parts of a parameter. */
#define MPT_PART_MASTER 1   /**< FP32 master weights (with no_master: the 16-bit weights) */
#define MPT_PART_COPY16 2   /**< what ops read: the 16-bit copy; FP32 parameters: the master itself */
#define MPT_PART_GRADIENT 3 /**< gradients of scale * loss, as the last backward pass left them */
/** Describes a part where it lies: data, dtype, rank, shape. The pointer is valid until the store is destroyed; that
 *  of a gradient also ends when a trainer that accumulates is made, for gradients then become FP32. Writing masters through
 *  it needs mpt_params_refresh before the next step. */
MPT_API mpt_status mpt_params_tensor(mpt_params *params, const char *name, int32_t part, mpt_array *out);
/** Copies a part out, converted to array->dtype (any float type); the shape must be equal. Gradients are divided by the scale
 *  they carry. */
MPT_API mpt_status mpt_params_get(mpt_params *params, const char *name, int32_t part, const mpt_array *array);
/** Sets master weights from any float dtype, and the 16-bit copy with them. Non-finite values are refused. */
MPT_API mpt_status mpt_params_set(mpt_params *params, const char *name, const mpt_array *array);
/** Rounds all masters to the 16-bit copies anew. */
MPT_API mpt_status mpt_params_refresh(mpt_params *params);
/** Writes weights alone as a plain safetensors file. Weights that are infinite in the chosen type are told in the log.
 *  @param dtype MPT_FLOAT32, MPT_FLOAT16 or MPT_BFLOAT16 */
MPT_API mpt_status mpt_params_save(mpt_params *params, const char *path, mpt_dtype dtype);

typedef struct mpt_load_options {
  uint32_t struct_size;
  int32_t allow_missing;    /**< parameters that the file lacks keep their values; default 0 */
  int32_t allow_unexpected; /**< tensors that the store lacks are passed over; default 0 */
} mpt_load_options;
MPT_API mpt_status mpt_load_options_init(mpt_load_options *options, uint64_t struct_size);
/** Loads weights by name from any safetensors file (a checkpoint of libmpt too), F32, F16 or BF16. Missing, unexpected and
 *  misshapen tensors are told by name; nothing is changed unless everything fits.
 *  @return CORRUPT, IO, INVALID_ARGUMENT (names or shapes don't fit), UNSUPPORTED (a newer format) */
MPT_API mpt_status mpt_params_load(mpt_params *params, const char *path, const mpt_load_options *options);

/* ------------------------------------------------------------------------------------------------------------ DLPack */

/** Tensors of other libraries (PyTorch, JAX, CuPy, NumPy) without copies: https://dmlc.github.io/dlpack, header dlpack.h.
 *  Unversioned structs are those of DLPack before 1.0, versioned ones of 1.x. */
struct DLManagedTensor;
struct DLManagedTensorVersioned;
/** Describes a tensor as an array. It stays the tensor's memory, and the tensor the caller's. On a GPU: see mpt_cuda.h.
 *  @return UNSUPPORTED for element types, lanes, ranks or devices that libmpt has not */
MPT_API mpt_status mpt_array_from_dlpack(const struct DLManagedTensor *tensor, mpt_array *out);
/** @return also UNSUPPORTED for another major version of DLPack */
MPT_API mpt_status mpt_array_from_dlpack_versioned(const struct DLManagedTensorVersioned *tensor, mpt_array *out);
/** A part of a store's parameter as a tensor: the memory itself, no copy. The tensor keeps the store alive until its deleter is
 *  called, which may be done by any thread. What mpt_params_tensor says of changes holds here too; on a GPU the consumer must
 *  wait for the context's stream, or mpt_context_synchronize. `*out` is NULL on failure. */
MPT_API mpt_status mpt_params_to_dlpack(mpt_params *params, const char *name, int32_t part,
                                        struct DLManagedTensor **out);
/** The same as a tensor of DLPack 1.0. */
MPT_API mpt_status mpt_params_to_dlpack_versioned(mpt_params *params, const char *name, int32_t part,
                                                  struct DLManagedTensorVersioned **out);

/* ------------------------------------------------------------------------------------------------------------ scaler */

#define MPT_SCALER_OFF 1     /**< scale 1; non-finite gradients still skip the step */
#define MPT_SCALER_STATIC 2  /**< initial_scale for ever; non-finite gradients skip the step */
#define MPT_SCALER_DYNAMIC 3 /**< grows after growth_interval clean updates, backs off on overflow */
#define MPT_SKIP_CONTINUE 0
#define MPT_SKIP_FAIL 1
#define MPT_SKIP_DEMOTE 2
typedef struct mpt_scaler_options {
  uint32_t struct_size;
  int32_t mode; /**< default MPT_SCALER_DYNAMIC; trainers of fp32 and bf16 stores use scale 1 when given no scaler */
  double initial_scale;    /**< default 65536; a power of two */
  double growth_factor;    /**< default 2; a power of two of at least 2 */
  double backoff_factor;   /**< default 0.5; a power of two below 1 */
  int32_t growth_interval; /**< applied updates without overflow before growth; default 2000 */
  int32_t hysteresis;      /**< the h-th skip in a row backs off; refilled on growth; default 1 */
  double min_scale;        /**< floor; default 1 */
  double max_scale;        /**< cap; default 2^24 */
  int32_t skip_limit;      /**< after so many skips in a row at the floor, skip_policy applies; default 100 */
  int32_t
      skip_policy; /**< MPT_SKIP_CONTINUE, MPT_SKIP_FAIL (default: the step returns NUMERIC and says which tensor was
                                first non-finite) or MPT_SKIP_DEMOTE (the blamed op is kept in FP32 from then on) */
} mpt_scaler_options;
MPT_API mpt_status mpt_scaler_options_init(mpt_scaler_options *options, uint64_t struct_size);
/** Powers of two only, else INVALID_ARGUMENT: scaling must be exact. */
MPT_API mpt_status mpt_scaler_create(mpt_scaler **out, mpt_context *context, const mpt_scaler_options *options);
MPT_API void mpt_scaler_destroy(mpt_scaler *scaler);

typedef struct mpt_scaler_state {
  uint32_t struct_size;
  int32_t growth_counter; /**< applied updates since the last change */
  double scale;
  int32_t hysteresis_counter; /**< skips left before the scale backs off */
  int32_t skips_in_a_row;
  uint64_t applied; /**< updates applied */
  uint64_t skipped; /**< updates skipped */
  uint64_t epoch;   /**< changes whenever the scale may have changed */
} mpt_scaler_state;
MPT_API mpt_status mpt_scaler_state_init(mpt_scaler_state *state, uint64_t struct_size);
MPT_API mpt_status mpt_scaler_get_state(mpt_scaler *scaler, mpt_scaler_state *out);
/** Begins a backward pass of the caller's own: returns the factor to multiply the loss (or its gradient) with, and marks the
 *  store's gradients as carrying this scale. mpt_optimizer_step needs it once for each step. */
MPT_API mpt_status mpt_scaler_begin(mpt_scaler *scaler, mpt_params *params, double *out_scale);
/** Divides FP32 gradients by the scale in place (to look at them, or to change them); the optimizer then doesn't.
 *  @return INVALID_STATE when done twice or when the scale has changed since mpt_scaler_begin; UNSUPPORTED if the store's
 *  gradients are 16 bits wide, where dividing would lose what scaling saved */
MPT_API mpt_status mpt_scaler_unscale(mpt_scaler *scaler, mpt_params *params);

/* --------------------------------------------------------------------------------------------------------- optimizer */

typedef int32_t mpt_optimizer_kind;
#define MPT_SGD 1      /**< momentum, dampening 0, Nesterov; coupled decay; as torch.optim.SGD */
#define MPT_ADAM 2     /**< Kingma and Ba 2015; coupled decay */
#define MPT_ADAMW 3    /**< Loshchilov and Hutter 2019; decoupled decay */
#define MPT_LAMB 4     /**< You et al. 2020 */
#define MPT_ADAGRAD 5  /**< Duchi et al. 2011; as torch.optim.Adagrad */
#define MPT_NOVOGRAD 6 /**< Ginsburg et al. 2019 */
#define MPT_LION 7     /**< Chen et al. 2023 */

#define MPT_SCHEDULE_CONSTANT 0
#define MPT_SCHEDULE_LINEAR 1       /**< from 1 to final_factor at total_steps */
#define MPT_SCHEDULE_COSINE 2       /**< half a cosine from 1 to final_factor */
#define MPT_SCHEDULE_STEP 3         /**< times gamma every step_size steps */
#define MPT_SCHEDULE_INVERSE_SQRT 4 /**< sqrt(w / max(step, w)), w = max(warmup_steps, 1) */
#define MPT_SCHEDULE_POLYNOMIAL 5   /**< (1 - progress)^power between 1 and final_factor */
#define MPT_SCHEDULE_TABLE 6        /**< factor table[min(step, table_length - 1)] */
/** Factor on the learning rate as a function of the count of applied updates; a linear warm-up from 1/warmup_steps comes first
 *  and is counted in total_steps. docs/formulas.md has each formula. */
typedef struct mpt_schedule_options {
  uint32_t struct_size;
  int32_t kind;         /**< default MPT_SCHEDULE_CONSTANT */
  int64_t warmup_steps; /**< default 0 */
  int64_t total_steps;  /**< linear, cosine, polynomial; at least 1 there */
  double final_factor;  /**< default 0 */
  int64_t step_size;    /**< step: default 1000 */
  double gamma;         /**< step: default 0.1 */
  double power;         /**< polynomial: default 1 */
  const double *table;  /**< copied */
  int64_t table_length;
} mpt_schedule_options;
MPT_API mpt_status mpt_schedule_options_init(mpt_schedule_options *options, uint64_t struct_size);
/** The factor after `step` applied updates. */
MPT_API mpt_status mpt_schedule_factor(const mpt_schedule_options *options, int64_t step, double *out_factor);

typedef struct mpt_optimizer_options {
  uint32_t struct_size;
  mpt_optimizer_kind kind; /**< default MPT_ADAMW */
  double learning_rate;    /**< default 1e-3 */
  double beta1, beta2;     /**< default 0.9, 0.999 (NovoGrad 0.95, 0.98; Lion 0.9, 0.99) */
  double epsilon;          /**< default 1e-8 (LAMB 1e-6, Adagrad 1e-10); on unscaled FP32 values */
  double weight_decay;     /**< default 0.01 for AdamW and LAMB, else 0 */
  double momentum;         /**< SGD: default 0 */
  int32_t nesterov;        /**< SGD: default 0; needs momentum */
  double clip_norm;        /**< greatest global norm of the unscaled gradients; default 0: no clipping */
  double clip_value;       /**< each unscaled gradient into [-v, v]; before the norm's clipping; default 0: none */
  double average_decay;    /**< exponential moving average of the masters: a = d a + (1 - d) w; default 0: none */
  const mpt_schedule_options *schedule; /**< copied; NULL: constant */
  const char *pattern;                  /**< parameters to train, * and ? as in file names; NULL: all */
  int32_t statistics_every;             /**< gather mpt_update_statistics at every n-th update; default 0: never */
} mpt_optimizer_options;
/** The defaults of AdamW. */
MPT_API mpt_status mpt_optimizer_options_init(mpt_optimizer_options *options, uint64_t struct_size);
/** The defaults of an optimizer. */
MPT_API mpt_status mpt_optimizer_options_init_kind(mpt_optimizer_options *options, uint64_t struct_size,
                                                   mpt_optimizer_kind kind);
/** Moments and averages for the parameters of a store. */
MPT_API mpt_status mpt_optimizer_create(mpt_optimizer **out, mpt_params *params, const mpt_optimizer_options *options);
MPT_API void mpt_optimizer_destroy(mpt_optimizer *optimizer);

typedef struct mpt_group_options {
  uint32_t struct_size;
  double learning_rate_factor; /**< default 1 */
  double weight_decay;         /**< default: the optimizer's when negative; default -1 */
  int32_t frozen;              /**< 1: left alone; default 0 */
} mpt_group_options;
MPT_API mpt_status mpt_group_options_init(mpt_group_options *options, uint64_t struct_size);
/** Other settings for parameters whose name fits `pattern` (* and ?); the last group that fits counts. A pattern that fits no
 *  parameter is INVALID_ARGUMENT. @param out_matched how many fit; may be NULL */
MPT_API mpt_status mpt_optimizer_add_group(mpt_optimizer *optimizer, const char *pattern,
                                           const mpt_group_options *options, int32_t *out_matched);
/** Base learning rate from the next update on (the schedule's factor still applies). Finite and not negative. */
MPT_API mpt_status mpt_optimizer_set_learning_rate(mpt_optimizer *optimizer, double learning_rate);
/** Learning rate of the next update: base times schedule. */
MPT_API mpt_status mpt_optimizer_learning_rate(mpt_optimizer *optimizer, double *out);

/** What a step did. */
typedef struct mpt_step_result {
  uint32_t struct_size;
  int32_t skipped;        /**< 1: gradients were not finite and nothing was changed */
  double loss;            /**< unscaled, of the (first) objective; mean over micro-steps; NaN from mpt_optimizer_step */
  double scale;           /**< that this step's gradients carried */
  double gradient_norm;   /**< global 2-norm of the unscaled gradients before clipping by norm; not finite on a skip */
  double learning_rate;   /**< that this update used (or would have) */
  uint64_t applied_steps; /**< of the optimizer, this one included */
  uint64_t skipped_steps; /**< of the scaler, this one included */
  int32_t micro_step;     /**< micro-steps gathered so far; 0: an update was made or skipped */
  int32_t fp16_overflows; /**< master weights that are finite but not in 16 bits after this update */
} mpt_step_result;
MPT_API mpt_status mpt_step_result_init(mpt_step_result *result, uint64_t struct_size);
/** For gradients of one's own: unscale, check, norm, clip, update masters, round copies, change the scale; one transaction.
 *  @param scaler the one that mpt_scaler_begin was called with; NULL: the gradients carry scale 1
 *  @param result may be NULL
 *  @return INVALID_STATE if mpt_scaler_begin wasn't called since the last step; NUMERIC by the scaler's skip policy */
MPT_API mpt_status mpt_optimizer_step(mpt_optimizer *optimizer, mpt_scaler *scaler, mpt_step_result *result);

/** Copies a parameter's weight average out, converted to array->dtype. @return INVALID_STATE without average_decay */
MPT_API mpt_status mpt_optimizer_get_average(mpt_optimizer *optimizer, const char *name, const mpt_array *array);

#define MPT_HISTOGRAM_BINS 64
/** Of weight gradients (unscaled) and updates at the last sampled update. Bin i of the histogram counts values with
 *  2^(i-48) <= |g| < 2^(i-47); bin 0 also those below, the last bin also those above. */
typedef struct mpt_update_statistics {
  uint32_t struct_size;
  int32_t reserved;
  uint64_t update;    /**< which update was sampled, from 1; 0: none yet */
  uint64_t gradients; /**< elements seen */
  uint64_t gradients_zero;
  uint64_t gradients_non_finite;
  uint64_t gradients_below_2_24;       /**< not zero, below 2^-24: smaller than any FP16 number */
  uint64_t gradients_rounding_to_zero; /**< not zero and at most 2^-25 */
  uint64_t gradients_below_2_14;       /**< not zero, below 2^-14: subnormal or lost in FP16 */
  uint64_t gradients_above_2_15;
  uint64_t updates; /**< not zero */
  uint64_t
      updates_lost; /**< of these, round16(w + u) == w with w = round16(master), in the store's 16-bit type (fp32: FP16) */
  uint64_t gradient_histogram[MPT_HISTOGRAM_BINS];
} mpt_update_statistics;
MPT_API mpt_status mpt_update_statistics_init(mpt_update_statistics *statistics, uint64_t struct_size);
MPT_API mpt_status mpt_optimizer_statistics(mpt_optimizer *optimizer, mpt_update_statistics *out);

/* ----------------------------------------------------------------------------------------------- workspace and plans */

typedef struct mpt_workspace_options {
  uint32_t struct_size;
  uint64_t bytes;     /**< to begin with; default 0: grows with the plans that use it */
  uint64_t max_bytes; /**< a plan that needs more fails with OUT_OF_MEMORY; default 0: no limit */
} mpt_workspace_options;
MPT_API mpt_status mpt_workspace_options_init(mpt_workspace_options *options, uint64_t struct_size);
/** May be shared by trainers of one context. */
MPT_API mpt_status mpt_workspace_create(mpt_workspace **out, mpt_context *context,
                                        const mpt_workspace_options *options);
MPT_API void mpt_workspace_destroy(mpt_workspace *workspace);
/** Bytes allocated now; 0 for NULL. */
MPT_API uint64_t mpt_workspace_bytes(const mpt_workspace *workspace);

/** Bytes by class, planned, and equal to what is allocated. */
typedef struct mpt_memory_report {
  uint32_t struct_size;
  int32_t reserved;
  uint64_t master;      /**< FP32 master weights */
  uint64_t copy16;      /**< 16-bit copies */
  uint64_t gradients;   /**< of parameters, accumulators included */
  uint64_t optimizer;   /**< moments and averages */
  uint64_t activations; /**< activations, their gradients, inputs */
  uint64_t scratch;     /**< of kernels */
  uint64_t library;     /**< allocated by other libraries on their own, measured; 0 where none does */
  uint64_t total;
  uint64_t fp32_activations; /**< the same plan in FP32: activations */
  uint64_t fp32_scratch;
  uint64_t fp32_total;       /**< the same training in FP32: all classes */
  uint64_t recomputed_flops; /**< extra floating-point operations per step that activation_budget costs */
  uint64_t flops;            /**< floating-point operations per step (multiply and add count two) */
} mpt_memory_report;
MPT_API mpt_status mpt_memory_report_init(mpt_memory_report *report, uint64_t struct_size);

typedef struct mpt_plan_options {
  uint32_t struct_size;
  int32_t training; /**< 1 (default): forward and backward; 0: forward only, dropout off */
  uint64_t
      activation_budget; /**< bytes of activations; what exceeds it is recomputed in the backward pass; 0: no limit */
  mpt_optimizer *optimizer; /**< counted in the memory report; NULL: none */
  int32_t accumulate;       /**< 1: gradients are added up in FP32 over micro-steps; default 0 */
} mpt_plan_options;
MPT_API mpt_status mpt_plan_options_init(mpt_plan_options *options, uint64_t struct_size);
/** Compiles a model for actual sizes without running it: to see the memory it needs and what became of it.
 *  @param outputs tensors to compute; the first is the loss when training
 *  @param dim_names,dim_sizes the named dimensions that the outputs depend on
 *  @return INVALID_ARGUMENT names op and shapes; UNSUPPORTED; OUT_OF_MEMORY */
MPT_API mpt_status mpt_plan_create(mpt_plan **out, mpt_params *params, int32_t n_outputs, const mpt_tensor *outputs,
                                   int32_t n_dims, const char *const *dim_names, const int64_t *dim_sizes,
                                   const mpt_plan_options *options);
MPT_API void mpt_plan_destroy(mpt_plan *plan);
MPT_API mpt_status mpt_plan_memory(mpt_plan *plan, mpt_memory_report *out);
/** The compiled step as text: every kernel with shapes, dtypes and offsets, and the precision of every tensor. */
MPT_API mpt_status mpt_plan_dump(mpt_plan *plan, char *buffer, uint64_t capacity, uint64_t *out_needed);

/* ----------------------------------------------------------------------------------------------------------- trainer */

/** Called after every step with its result; return 0 to go on, anything else to end the call with CANCELLED (the step itself
 *  is complete). May call getters, mpt_trainer_save and mpt_trainer_cancel. */
typedef int32_t (*mpt_progress_function)(void *user, const mpt_step_result *result);

typedef struct mpt_trainer_options {
  uint32_t struct_size;
  int32_t
      accumulation_steps; /**< micro-steps per update, their gradients averaged; default 1. More than 1 keeps gradients
                                       in FP32 and is fixed when the trainer is made. */
  mpt_workspace *workspace;       /**< NULL: the trainer's own */
  uint64_t activation_budget;     /**< as in mpt_plan_options */
  int32_t max_plans;              /**< compiled shapes kept, the least recently used goes first; default 8 */
  mpt_progress_function progress; /**< NULL: none; with one, every step waits for its result */
  void *progress_user;
  int32_t
      eager; /**< 1: kernels are launched one by one, to find faults; default 0: a CUDA device replays a recorded step */
} mpt_trainer_options;
MPT_API mpt_status mpt_trainer_options_init(mpt_trainer_options *options, uint64_t struct_size);
/** @param loss a scalar of the model that `params` was made from
 *  @param optimizer of `params`; NULL: a trainer that only evaluates and predicts
 *  @param scaler NULL: dynamic with the defaults for fp16, off for fp32 and bf16 */
MPT_API mpt_status mpt_trainer_create(mpt_trainer **out, mpt_tensor loss, mpt_params *params, mpt_optimizer *optimizer,
                                      mpt_scaler *scaler, const mpt_trainer_options *options);
/** Another loss: each step minimises the objectives one after another, each with its own backward pass. Objectives with the
 *  same optimizer share one update: gradients are unscaled, added in FP32, and dropped if any was not finite, while
 *  each scaler changes its own scale. Before the first step only. */
MPT_API mpt_status mpt_trainer_add_objective(mpt_trainer *trainer, mpt_tensor loss, mpt_optimizer *optimizer,
                                             mpt_scaler *scaler);
MPT_API void mpt_trainer_destroy(mpt_trainer *trainer);
/** One training step on a batch: convert inputs, forward, backward, check, update, change of scale. Inputs are matched by name
 *  (surplus ones are refused); floats are rounded once, integers convert exactly or are refused.
 *  @param result NULL: nothing is waited for; on a GPU what went wrong in the step is then told by a later call
 *  @return INVALID_ARGUMENT (shape, dtype, name, label), NUMERIC (skip policy), CANCELLED, OUT_OF_MEMORY. A skipped step is a
 *  success with result->skipped set. After an error parameters, optimizer and scaler are as before, and micro-steps
 *  gathered so far are dropped; with several objectives, the updates of those before the failing one stay. */
MPT_API mpt_status mpt_trainer_step(mpt_trainer *trainer, const mpt_array *inputs, int32_t n_inputs,
                                    mpt_step_result *result);
/** The first half of a step: forward and backward. Gradients may then be read and changed through mpt_params_tensor (they
 *  carry the scale). @param out_loss may be NULL */
MPT_API mpt_status mpt_trainer_backward(mpt_trainer *trainer, const mpt_array *inputs, int32_t n_inputs,
                                        double *out_loss);
/** The second half: check, unscale, clip, update, change of scale. INVALID_STATE without a backward before it. */
MPT_API mpt_status mpt_trainer_update(mpt_trainer *trainer, mpt_step_result *result);
/** Result of one objective in the last step. */
MPT_API mpt_status mpt_trainer_objective_result(mpt_trainer *trainer, int32_t objective, mpt_step_result *result);
/** The (first) loss on a batch without training: dropout off. @param use_average 1: with the weight average */
MPT_API mpt_status mpt_trainer_evaluate(mpt_trainer *trainer, const mpt_array *inputs, int32_t n_inputs,
                                        int32_t use_average, double *out_loss);
/** Any named tensors on a batch without training: outputs[i].name says which, its memory receives it, converted to its dtype.
 *  Only the inputs that these depend on are needed. */
MPT_API mpt_status mpt_trainer_predict(mpt_trainer *trainer, const mpt_array *inputs, int32_t n_inputs,
                                       const mpt_array *outputs, int32_t n_outputs);
/** Keeps a named tensor (or "name.grad", its gradient, which carries the scale) readable after steps; costs its memory. */
MPT_API mpt_status mpt_trainer_keep(mpt_trainer *trainer, const char *name);
/** Reads a kept tensor as the last step left it, converted to out->dtype; out->name says which. */
MPT_API mpt_status mpt_trainer_fetch(mpt_trainer *trainer, const mpt_array *out);
/** Ends the step that runs now, or the next one, with CANCELLED before its update. From any thread. */
MPT_API mpt_status mpt_trainer_cancel(mpt_trainer *trainer);
/** Memory of the last step's plan; before a step INVALID_STATE. */
MPT_API mpt_status mpt_trainer_memory(mpt_trainer *trainer, mpt_memory_report *out);
/** The last step's compiled plan as text. */
MPT_API mpt_status mpt_trainer_dump(mpt_trainer *trainer, char *buffer, uint64_t capacity, uint64_t *out_needed);
/** Writes a checkpoint: masters, moments, averages, scalers, schedule position, random state; one safetensors file, written
 *  beside and renamed, so that `path` is always whole. Resuming from it is bit-exact. */
MPT_API mpt_status mpt_trainer_save(mpt_trainer *trainer, const char *path);
/** Reads a checkpoint of a trainer built alike. Nothing is changed unless everything fits.
 *  @return CORRUPT, IO, INVALID_ARGUMENT (built differently: the message names what), UNSUPPORTED (a newer format) */
MPT_API mpt_status mpt_trainer_load(mpt_trainer *trainer, const char *path);

#ifdef __cplusplus
}
#endif
#endif /* MPT_H */
