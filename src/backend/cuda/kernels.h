// The implementations of the CUDA backend: a line per op family, each adding its own to the lists.
#pragma once

namespace mpt::cuda {

class Registry;

void register_accumulate(Registry&);
void register_attention(Registry&);
void register_concat(Registry&);
void register_cross_entropy(Registry&);
void register_custom(Registry&);
void register_elementwise(Registry&);
void register_gather(Registry&);
void register_matmul(Registry&);
void register_norm(Registry&);
void register_pad(Registry&);
void register_pair_loss(Registry&);
void register_reduce(Registry&);
void register_reduce_max_grad(Registry&);
void register_reshape(Registry&);
void register_seed(Registry&);
void register_slice(Registry&);
void register_softmax(Registry&);
void register_transpose(Registry&);

}  // namespace mpt::cuda
