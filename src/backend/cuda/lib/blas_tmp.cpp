#include "backend/cuda/lib/device_cuda.h"
namespace mpt::cuda { std::unique_ptr<Blas> make_cublaslt() { return nullptr; } }
