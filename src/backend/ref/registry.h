// The reference's list of implementations: one per kind of op.
#pragma once

#include "backend/ref/kernels.h"

namespace mpt::ref {

Prepare implementation_of(OpKind kind);  // null: none

}  // namespace mpt::ref
