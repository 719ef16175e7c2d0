// The functions of cuDNN that we and its frontend call, forwarded to the library that is found when the first is called: so
// libmpt_cuda loads on machines without cuDNN.
#if defined(MPT_HAVE_CUDNN)

#include <cudnn.h>
#include <dlfcn.h>

namespace {

void* find(const char* name) {
  static void* const library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr : dlsym(library, name);
}

}  // namespace

#define MPT_FORWARD(type, name, parameters, arguments, otherwise)                \
  extern "C" type CUDNNWINAPI name parameters {                                  \
    static const auto function = reinterpret_cast<decltype(&name)>(find(#name)); \
    return function == nullptr ? otherwise : function arguments;                 \
  }
#define MPT_FORWARD_STATUS(name, parameters, arguments) \
  MPT_FORWARD(cudnnStatus_t, name, parameters, arguments, CUDNN_STATUS_NOT_INITIALIZED)

MPT_FORWARD(size_t, cudnnGetVersion, (void), (), 0)
MPT_FORWARD(const char*, cudnnGetErrorString, (cudnnStatus_t status), (status), "cuDNN is not there")
MPT_FORWARD_STATUS(cudnnCreate, (cudnnHandle_t * handle), (handle))
MPT_FORWARD_STATUS(cudnnDestroy, (cudnnHandle_t handle), (handle))
MPT_FORWARD_STATUS(cudnnSetStream, (cudnnHandle_t handle, cudaStream_t stream), (handle, stream))
MPT_FORWARD_STATUS(cudnnGetStream, (cudnnHandle_t handle, cudaStream_t* stream), (handle, stream))
MPT_FORWARD_STATUS(cudnnBackendCreateDescriptor,
                   (cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor), (type, descriptor))
MPT_FORWARD_STATUS(cudnnBackendDestroyDescriptor, (cudnnBackendDescriptor_t descriptor), (descriptor))
MPT_FORWARD_STATUS(cudnnBackendFinalize, (cudnnBackendDescriptor_t descriptor), (descriptor))
MPT_FORWARD_STATUS(cudnnBackendSetAttribute,
                   (cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                    cudnnBackendAttributeType_t type, int64_t count, const void* elements),
                   (descriptor, name, type, count, elements))
MPT_FORWARD_STATUS(cudnnBackendGetAttribute,
                   (const cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                    cudnnBackendAttributeType_t type, int64_t requested, int64_t* count, void* elements),
                   (descriptor, name, type, requested, count, elements))
MPT_FORWARD_STATUS(cudnnBackendExecute,
                   (cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t variants),
                   (handle, plan, variants))

extern "C" void CUDNNWINAPI cudnnGetLastErrorString(char* message, size_t size) {
  static const auto function = reinterpret_cast<decltype(&cudnnGetLastErrorString)>(find("cudnnGetLastErrorString"));
  if (function != nullptr)
    function(message, size);
  else if (size > 0)
    message[0] = '\0';
}

#endif
