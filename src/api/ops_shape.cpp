// Shape changes, reductions, softmax, losses and custom ops.
#include <algorithm>
#include <cmath>

#include "api/builder.h"
#include "ops/op.h"

using mpt::build;
using mpt::Graph;
using mpt::guarded;
using mpt::OpKind;
using mpt::Shape;
using mpt::ValueId;

namespace {

const mpt_loss_options default_loss{sizeof(mpt_loss_options), MPT_REDUCE_MEAN, 0, -100};

mpt_tensor reduce(mpt_model* model, const char* function, mpt::Reduction reduction, mpt_tensor x, int32_t count,
                  const int32_t* axes, int32_t keep) {
  return build(model, function, {x}, [&](Graph& graph) {
    const int rank = graph.shape(x).rank();
    MPT_CHECK_ARGUMENT(count >= 0 && count <= rank && (axes || count == 0), "count is %d for a tensor of rank %d",
                       count, rank);
    mpt::ReduceAttrs attrs{reduction, {}, keep != 0};
    for (int i = 0; i < (count == 0 ? rank : count); ++i)
      attrs.axes.push_back(count == 0 ? i : mpt::normalize_axis(axes[i], rank, function));
    std::sort(attrs.axes.begin(), attrs.axes.end());
    MPT_CHECK_ARGUMENT(std::adjacent_find(attrs.axes.begin(), attrs.axes.end()) == attrs.axes.end(),
                       "an axis is given twice");
    return graph.apply(OpKind::reduce, std::string(function + 4) + "_" + std::to_string(graph.nodes.size()), attrs,
                       {x});
  });
}

mpt_tensor softmax(mpt_model* model, const char* function, mpt_tensor x, int32_t axis, bool log) {
  return build(model, function, {x}, [&](Graph& graph) {
    return graph.apply(OpKind::softmax, std::string(function + 4) + "_" + std::to_string(graph.nodes.size()),
                       mpt::SoftmaxAttrs{axis, log}, {x});
  });
}

bool reads_mean(const mpt_loss_options& o) {
  MPT_CHECK_ARGUMENT(o.label_smoothing >= 0 && o.label_smoothing < 1, "label_smoothing is %g, expected 0 <= s < 1",
                     o.label_smoothing);
  MPT_CHECK_ARGUMENT(o.reduction == MPT_REDUCE_MEAN || o.reduction == MPT_REDUCE_SUM,
                     "reduction is %d, expected MPT_REDUCE_MEAN or MPT_REDUCE_SUM", o.reduction);
  return o.reduction == MPT_REDUCE_MEAN;
}

mpt_tensor pair_loss(mpt_model* model, const char* function, mpt::PairLoss loss, mpt_tensor x, mpt_tensor target,
                     const mpt_loss_options* options) {
  return build(model, function, {x, target}, [&](Graph& graph) {
    const mpt_loss_options o = mpt::read_options("mpt_loss_options", options, default_loss);
    return graph.apply(OpKind::pair_loss, std::string(function + 4) + "_" + std::to_string(graph.nodes.size()),
                       mpt::PairLossAttrs{loss, reads_mean(o), ~0u}, {x, target});
  });
}

}  // namespace

extern "C" {

mpt_tensor mpt_reshape(mpt_model* model, mpt_tensor x, int32_t rank, const int64_t* shape) {
  return build(model, "mpt_reshape", {x}, [&](Graph& graph) {
    MPT_CHECK_ARGUMENT(rank >= 0 && rank <= MPT_MAX_RANK && (shape || rank == 0), "rank is %d or shape is NULL", rank);
    mpt::ReshapeAttrs attrs;
    for (int i = 0; i < rank; ++i) {
      if (shape[i] == -1) {
        MPT_CHECK_ARGUMENT(attrs.rest_axis < 0, "two sizes are -1; one size may be the rest");
        attrs.rest_axis = i;
      } else {
        MPT_CHECK_ARGUMENT(shape[i] > 0 || graph.dims->is_valid(shape[i]),
                           "shape[%d] is %lld, expected a size, -1 or a named dimension", i,
                           static_cast<long long>(shape[i]));
      }
      attrs.shape.push_back(shape[i]);
    }
    mpt::check_known_sizes(attrs.shape);
    return graph.apply(OpKind::reshape, "", attrs, {x});
  });
}

mpt_tensor mpt_transpose(mpt_model* model, mpt_tensor x, const int32_t* axes) {
  return build(model, "mpt_transpose", {x}, [&](Graph& graph) {
    const int rank = graph.shape(x).rank();
    mpt::TransposeAttrs attrs;
    for (int i = 0; i < rank; ++i)
      attrs.axes.push_back(axes ? mpt::normalize_axis(axes[i], rank, "mpt_transpose") : rank - 1 - i);
    return graph.apply(OpKind::transpose, "", attrs, {x});
  });
}

mpt_tensor mpt_slice(mpt_model* model, mpt_tensor x, int32_t axis, int64_t begin, int64_t end) {
  return build(model, "mpt_slice", {x}, [&](Graph& graph) {
    return graph.apply(OpKind::slice, "", mpt::SliceAttrs{axis, begin, end}, {x});
  });
}

mpt_tensor mpt_concat(mpt_model* model, int32_t count, const mpt_tensor* tensors, int32_t axis) {
  if (count < 1 || !tensors)
    return build(model, "mpt_concat", {}, [&](Graph&) -> ValueId {
      mpt::fail(MPT_ERROR_INVALID_ARGUMENT, "count is %d or tensors is NULL, expected at least one tensor", count);
    });
  return build(model, "mpt_concat", tensors, count, [&](Graph& graph) {
    return graph.apply(OpKind::concat, "", mpt::AxisAttrs{axis}, std::vector<ValueId>(tensors, tensors + count));
  });
}

mpt_tensor mpt_gather(mpt_model* model, mpt_tensor x, mpt_tensor indices, int32_t axis) {
  return build(model, "mpt_gather", {x, indices}, [&](Graph& graph) {
    return graph.apply(OpKind::gather, "", mpt::GatherAttrs{axis, {}}, {x, indices});
  });
}

mpt_tensor mpt_pad(mpt_model* model, mpt_tensor x, int32_t axis, int64_t before, int64_t after, double value) {
  return build(model, "mpt_pad", {x}, [&](Graph& graph) {
    constexpr int64_t most = int64_t{1} << 40;
    MPT_CHECK_ARGUMENT(before <= most && after <= most, "before is %lld and after is %lld, expected at most 2^40",
                       static_cast<long long>(before), static_cast<long long>(after));
    MPT_CHECK_ARGUMENT(std::isinf(value) || std::isfinite(static_cast<float>(value)),
                       "value is %g, expected a number within float32 or an infinity", value);
    const mpt::DType dtype = graph.value(x).dtype;
    const double low = dtype == mpt::DType::u8 ? 0 : INT32_MIN, high = dtype == mpt::DType::u8 ? 255 : INT32_MAX;
    MPT_CHECK_ARGUMENT(mpt::is_float(dtype) || (value >= low && value <= high && value == std::trunc(value)),
                       "value is %g, expected an integer that %s holds", value, mpt::name_of(dtype));
    return graph.apply(OpKind::pad, "", mpt::PadAttrs{axis, before, after, value}, {x});
  });
}

mpt_tensor mpt_sum(mpt_model* m, mpt_tensor x, int32_t count, const int32_t* axes, int32_t keep) {
  return reduce(m, "mpt_sum", mpt::Reduction::sum, x, count, axes, keep);
}
mpt_tensor mpt_mean(mpt_model* m, mpt_tensor x, int32_t count, const int32_t* axes, int32_t keep) {
  return reduce(m, "mpt_mean", mpt::Reduction::mean, x, count, axes, keep);
}
mpt_tensor mpt_max(mpt_model* m, mpt_tensor x, int32_t count, const int32_t* axes, int32_t keep) {
  return reduce(m, "mpt_max", mpt::Reduction::max, x, count, axes, keep);
}

mpt_tensor mpt_softmax(mpt_model* m, mpt_tensor x, int32_t axis) { return softmax(m, "mpt_softmax", x, axis, false); }
mpt_tensor mpt_log_softmax(mpt_model* m, mpt_tensor x, int32_t axis) {
  return softmax(m, "mpt_log_softmax", x, axis, true);
}

mpt_status mpt_loss_options_init(mpt_loss_options* options, uint64_t struct_size) {
  return guarded("mpt_loss_options_init",
                 [&] { mpt::init_struct("mpt_loss_options", options, struct_size, default_loss); });
}

mpt_tensor mpt_cross_entropy(mpt_model* model, mpt_tensor logits, mpt_tensor labels, const mpt_loss_options* options) {
  return build(model, "mpt_cross_entropy", {logits, labels}, [&](Graph& graph) {
    const mpt_loss_options o = mpt::read_options("mpt_loss_options", options, default_loss);
    return graph.apply(OpKind::cross_entropy, "cross_entropy_" + std::to_string(graph.nodes.size()),
                       mpt::CrossEntropyAttrs{reads_mean(o), o.label_smoothing, o.ignore_index}, {logits, labels});
  });
}

mpt_tensor mpt_mse_loss(mpt_model* m, mpt_tensor x, mpt_tensor target, const mpt_loss_options* options) {
  return pair_loss(m, "mpt_mse_loss", mpt::PairLoss::mse, x, target, options);
}
mpt_tensor mpt_l1_loss(mpt_model* m, mpt_tensor x, mpt_tensor target, const mpt_loss_options* options) {
  return pair_loss(m, "mpt_l1_loss", mpt::PairLoss::l1, x, target, options);
}
mpt_tensor mpt_bce_loss(mpt_model* m, mpt_tensor logits, mpt_tensor target, const mpt_loss_options* options) {
  return pair_loss(m, "mpt_bce_loss", mpt::PairLoss::bce, logits, target, options);
}

mpt_status mpt_custom_options_init(mpt_custom_options* options, uint64_t struct_size) {
  return guarded("mpt_custom_options_init",
                 [&] { mpt::init_struct("mpt_custom_options", options, struct_size, mpt_custom_options{}); });
}

mpt_tensor mpt_custom(mpt_model* model, int32_t n_inputs, const mpt_tensor* inputs, int32_t n_outputs,
                      const int32_t* out_ranks, const int64_t* out_shapes, const mpt_custom_options* options,
                      mpt_tensor* out_tensors) {
  constexpr int32_t most = 64;
  if (n_inputs < 1 || n_inputs > most || !inputs || n_outputs < 1 || n_outputs > most || !out_ranks || !out_tensors ||
      !options)
    return build(model, "mpt_custom", {}, [&](Graph&) -> ValueId {
      mpt::fail(MPT_ERROR_INVALID_ARGUMENT,
                "n_inputs is %d and n_outputs is %d, expected 1 to %d, or a pointer is NULL", n_inputs, n_outputs,
                most);
    });
  return build(model, "mpt_custom", inputs, n_inputs, [&](Graph& graph) {
    const mpt_custom_options o = mpt::read_options("mpt_custom_options", options, mpt_custom_options{});
    MPT_CHECK_ARGUMENT(o.forward, "options.forward is NULL");
    constexpr uint64_t most_scratch = uint64_t{1} << 48;
    MPT_CHECK_ARGUMENT(o.scratch_bytes <= most_scratch, "options.scratch_bytes is %llu, expected at most 2^48",
                       static_cast<unsigned long long>(o.scratch_bytes));
    mpt::CustomAttrs attrs;
    attrs.forward = o.forward;
    attrs.backward = o.backward;
    attrs.user = o.user;
    attrs.scratch_bytes = o.scratch_bytes;
    attrs.fp32 = o.fp32 != 0;
    attrs.n_inputs = n_inputs;
    attrs.n_outputs = n_outputs;
    const int64_t* sizes = out_shapes;
    for (int32_t i = 0; i < n_outputs; ++i) {
      MPT_CHECK_ARGUMENT(out_ranks[i] >= 0 && out_ranks[i] <= MPT_MAX_RANK && (sizes || out_ranks[i] == 0),
                         "out_ranks[%d] is %d", i, out_ranks[i]);
      Shape shape;
      for (int32_t axis = 0; axis < out_ranks[i]; ++axis, ++sizes) {
        MPT_CHECK_ARGUMENT(*sizes > 0 || graph.dims->is_valid(*sizes), "output %d: size %d is %lld", i, axis,
                           static_cast<long long>(*sizes));
        shape.push_back(*sizes);
      }
      mpt::check_known_sizes(shape);
      attrs.out_shapes.push_back(shape);
    }
    const mpt::NodeId id = graph.add(OpKind::custom, mpt::unique_name(graph, o.name && *o.name ? o.name : "custom"),
                                     attrs, std::vector<ValueId>(inputs, inputs + n_inputs));
    std::copy(graph.node(id).outputs.begin(), graph.node(id).outputs.end(), out_tensors);
    return out_tensors[0];
  });
}

}  // extern "C"
