#include "backend/ref/registry.h"

namespace mpt::ref {

Prepare implementation_of(OpKind kind) {
  switch (kind) {
    case OpKind::elementwise:
      return prepare_elementwise;
    case OpKind::matmul:
      return prepare_matmul;
    case OpKind::reduce:
      return prepare_reduce;
    case OpKind::reduce_max_grad:
      return prepare_reduce_max_grad;
    case OpKind::softmax:
      return prepare_softmax;
    case OpKind::softmax_grad:
      return prepare_softmax_grad;
    case OpKind::norm:
      return prepare_norm;
    case OpKind::norm_grad:
      return prepare_norm_grad;
    case OpKind::attention:
      return prepare_attention;
    case OpKind::attention_grad:
      return prepare_attention_grad;
    case OpKind::reshape:
      return prepare_reshape;
    case OpKind::transpose:
      return prepare_transpose;
    case OpKind::slice:
      return prepare_slice;
    case OpKind::concat:
      return prepare_concat;
    case OpKind::gather:
      return prepare_gather;
    case OpKind::gather_grad:
      return prepare_gather_grad;
    case OpKind::pad:
      return prepare_pad;
    case OpKind::cross_entropy:
      return prepare_cross_entropy;
    case OpKind::cross_entropy_grad:
      return prepare_cross_entropy_grad;
    case OpKind::pair_loss:
      return prepare_pair_loss;
    case OpKind::pair_loss_grad:
      return prepare_pair_loss_grad;
    case OpKind::loss_seed:
      return prepare_loss_seed;
    case OpKind::accumulate:
      return prepare_accumulate;
    case OpKind::custom:
      return prepare_custom;
    case OpKind::custom_grad:
      return prepare_custom_grad;
    case OpKind::count_:
      break;
  }
  return nullptr;
}

}  // namespace mpt::ref
