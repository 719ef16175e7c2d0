// How the sums of a store's pieces become one: piece i goes to chain i mod 256, each chain adds in order, and the chains are
// folded by halves. An order that a block of 256 threads can follow as well as a loop.
#pragma once

#include "kernels/numerics/qualifiers.h"

namespace mpt {

constexpr int piece_chains = 256;

class PieceSum {
 public:
  void add(int64_t piece, double sum) { chain_[piece % piece_chains] += sum; }
  double total() const {
    double folded[piece_chains];
    for (int i = 0; i < piece_chains; ++i) folded[i] = chain_[i];
    for (int half = piece_chains / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) folded[i] += folded[i + half];
    return folded[0];
  }

 private:
  double chain_[piece_chains] = {};
};

}  // namespace mpt
