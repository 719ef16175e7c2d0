/*
 * libmpt on NVIDIA GPUs: streams and device memory of the caller's. Everything else is in mpt.h; a program that gives "cuda:0"
 * as its context's device needs nothing from here.
 *
 * Arrays in device memory. Where a function of mpt.h takes an mpt_array, one with device_type MPT_DEVICE_CUDA and the context's
 * device_index is taken as well: inputs of mpt_trainer_step, _backward, _evaluate and _predict, outputs of mpt_trainer_predict
 * and mpt_trainer_fetch, and the arrays of mpt_params_get and mpt_params_set. They are read and written by the context's stream
 * in the order of the calls, without a detour over the host: what an input holds must be there, or be enqueued on that stream,
 * before the call, and the memory must stay as it is until the stream has gone past. Floats are rounded once; 64-bit integers
 * become 32-bit ones. Labels and indices in device memory are not checked beforehand: out of range they give NaN, and nothing
 * is read or written beyond a tensor. uint8 pictures with a mean and deviation (mpt_input_normalize) come from the host only;
 * mpt_params_set does not look for non-finite values in device memory.
 */
#ifndef MPT_CUDA_H
#define MPT_CUDA_H

#include "mpt.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Number of CUDA devices that can be used. @return UNSUPPORTED, with the sentence that tells what is missing: the library
 *  libmpt_cuda.so, a CUDA library, the driver, or a newer driver */
MPT_API mpt_status mpt_cuda_device_count(int32_t *out);

typedef struct mpt_cuda_options {
  uint32_t struct_size;
  int32_t device; /**< index; default 0 */
  void *
      stream; /**< a cudaStream_t of that device, not the legacy default stream, that lives longer than the context and all
                       its children: everything is enqueued on it. NULL (default): the context makes one of its own. */
} mpt_cuda_options;
MPT_API mpt_status mpt_cuda_options_init(mpt_cuda_options *options, uint64_t struct_size);
/** mpt_context_create for a GPU, with a stream of the caller's. options->device is not looked at.
 *  @return as mpt_context_create */
MPT_API mpt_status mpt_cuda_context_create(mpt_context **out, const mpt_context_options *options,
                                           const mpt_cuda_options *cuda);
/** The cudaStream_t that a context enqueues on: to wait for it, or to enqueue before and behind the library's work.
 *  @return INVALID_STATE for a context that is not on a CUDA device */
MPT_API mpt_status mpt_cuda_stream(mpt_context *context, void **out);

#ifdef __cplusplus
}
#endif

#endif
