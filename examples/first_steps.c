/* The program of the opening page of mpt.h, as printed there: XOR in FP16. */
/* clang-format off */
#include <mpt.h>
#include <stdio.h>
#define TRY(call) do { if ((call) != MPT_OK) { fprintf(stderr, "%s\n", mpt_last_error_message()); return 1; } } while (0)

int main(void) {
  static float x[64 * 2]; static int32_t y[64];
  for (int i = 0; i < 64; ++i) {                      // four blobs, XOR labels
    x[2 * i] = (i & 1) - 0.5f; x[2 * i + 1] = (i >> 1 & 1) - 0.5f; y[i] = (i & 1) ^ (i >> 1 & 1);
  }
  mpt_context *ctx; mpt_model *m; mpt_params *p; mpt_optimizer *opt; mpt_scaler *sc; mpt_trainer *t;
  TRY(mpt_context_create(&ctx, NULL));
  TRY(mpt_model_create(&m, ctx));
  const int64_t B = mpt_model_dim(m, "batch"), xs[] = {B, 2}, ys[] = {B};
  mpt_tensor in = mpt_input(m, "x", MPT_FLOAT32, 2, xs), label = mpt_input(m, "y", MPT_INT32, 1, ys);
  mpt_tensor h = mpt_tanh(m, mpt_linear(m, "fc1", in, 16, NULL));
  mpt_tensor loss = mpt_cross_entropy(m, mpt_linear(m, "fc2", h, 2, NULL), label, NULL);
  mpt_params_options po; mpt_params_options_init(&po, sizeof po); po.precision = MPT_PRECISION_FP16;
  mpt_optimizer_options oo; mpt_optimizer_options_init(&oo, sizeof oo); oo.learning_rate = 0.02;
  TRY(mpt_params_create(&p, m, &po));                 // reports any mistake made while building the model
  TRY(mpt_optimizer_create(&opt, p, &oo));
  TRY(mpt_scaler_create(&sc, ctx, NULL));
  TRY(mpt_trainer_create(&t, loss, p, opt, sc, NULL));
  mpt_array batch[] = {{.name = "x", .data = x, .dtype = MPT_FLOAT32, .rank = 2, .shape = {64, 2}},
                       {.name = "y", .data = y, .dtype = MPT_INT32, .rank = 1, .shape = {64}}};
  for (int i = 0; i < 200; ++i) {
    mpt_step_result r; mpt_step_result_init(&r, sizeof r);
    TRY(mpt_trainer_step(t, batch, 2, &r));
    if (i % 50 == 49) printf("step %d loss %.4f scale %g\n", i + 1, r.loss, r.scale);
  }
  TRY(mpt_trainer_save(t, "xor.safetensors"));
  mpt_trainer_destroy(t); mpt_scaler_destroy(sc); mpt_optimizer_destroy(opt);
  mpt_params_destroy(p); mpt_model_destroy(m); mpt_context_destroy(ctx);
  return 0;
}
