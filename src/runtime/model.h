// A network as the user described it.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>

#include "graph/graph.h"
#include "runtime/context.h"

namespace mpt {

struct Model {
  std::shared_ptr<Context> context;
  Graph graph;  // sizes may be named dimensions

  // Precision overrides: what these ops write stays FP32.
  std::map<std::string, bool> op_keeps_fp32;
  std::array<bool, 5> class_keeps_fp32{};  // by op class

  // The first mistake made while building.
  mpt_status error = MPT_OK;
  std::string error_message;

  void throw_error() const {
    if (error != MPT_OK) throw Error(error, error_message.c_str());
  }
};

}  // namespace mpt
