// The row loops of one instruction-set level.
#pragma once

#include "backend/cpu/element.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/isa/rows.h"

namespace mpt::cpu {

struct Rows {
  explicit Rows(Isa isa)
      : convert(MPT_CHOOSE_ISA(isa, convert_row)),
        combine(MPT_CHOOSE_ISA(isa, combine_row)),
        reduce(MPT_CHOOSE_ISA(isa, reduce_row)),
        reduce_columns(MPT_CHOOSE_ISA(isa, reduce_columns)) {}

  decltype(&portable::convert_row) convert;
  decltype(&portable::combine_row) combine;
  decltype(&portable::reduce_row) reduce;
  decltype(&portable::reduce_columns) reduce_columns;
};

}  // namespace mpt::cpu
