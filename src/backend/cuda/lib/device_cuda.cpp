// The device by CUDA's runtime.
#include "backend/cuda/lib/device_cuda.h"

#include <cuda_runtime.h>

#include "core/error.h"

namespace mpt::cuda {

void launch_failed(int code, const char* reason) {
  const mpt_status status = code == cudaErrorMemoryAllocation ? MPT_ERROR_DEVICE_OUT_OF_MEMORY : MPT_ERROR_DEVICE;
  fail(status, "cuda: a kernel could not be launched: %s", reason);
}

namespace {

// Errors after which the process's context on the device is of no use.
bool is_fatal(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorAssert:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
      return true;
    default:
      return false;
  }
}

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  if (error == cudaErrorMemoryAllocation)
    fail(MPT_ERROR_DEVICE_OUT_OF_MEMORY, "cuda: %s: %s", what, cudaGetErrorString(error));
  fail(is_fatal(error) ? MPT_ERROR_DEVICE_LOST : MPT_ERROR_DEVICE, "cuda: %s: %s (%s)", what, cudaGetErrorString(error),
       cudaGetErrorName(error));
}

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t native_event(Event event) { return static_cast<cudaEvent_t>(event); }

class CudaRecording final : public Recording {
 public:
  explicit CudaRecording(cudaGraphExec_t executable) : executable_(executable) {}
  ~CudaRecording() override { cudaGraphExecDestroy(executable_); }
  void run(Stream stream) override { check(cudaGraphLaunch(executable_, native(stream)), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t executable_;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) {
    const CurrentDevice current(*this);
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties");
    properties_.name = p.name;
    properties_.major = p.major;
    properties_.minor = p.minor;
    properties_.multiprocessors = p.multiProcessorCount;
    properties_.memory_bytes = p.totalGlobalMem;
    properties_.cache_bytes = static_cast<uint64_t>(p.l2CacheSize);
    properties_.shared_bytes_per_block = p.sharedMemPerBlockOptin;
    constexpr int oldest_major = 8;
    if (p.major < oldest_major)
      fail(MPT_ERROR_UNSUPPORTED, "device 'cuda:%d' (%s) has compute capability %d.%d, expected %d.0 or newer", index,
           p.name, p.major, p.minor, oldest_major);
  }

  const DeviceProperties& properties() const override { return properties_; }
  int make_current() override {
    int previous = 0;
    check(cudaGetDevice(&previous), "cudaGetDevice");
    if (previous != index_) check(cudaSetDevice(index_), "cudaSetDevice");
    return previous;
  }
  void restore_current(int previous) noexcept override {
    if (previous != index_) (void)cudaSetDevice(previous);
  }

  void* allocate(uint64_t bytes) override {
    void* pointer = nullptr;
    if (const cudaError_t error = cudaMalloc(&pointer, bytes); error != cudaSuccess) {
      (void)cudaGetLastError();
      if (error != cudaErrorMemoryAllocation) check(error, "cudaMalloc");
      std::size_t free_bytes = 0, total = 0;
      (void)cudaMemGetInfo(&free_bytes, &total);
      fail(MPT_ERROR_DEVICE_OUT_OF_MEMORY, "cuda: %llu bytes could not be allocated: %llu of %llu are free",
           static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(free_bytes),
           static_cast<unsigned long long>(total));
    }
    return pointer;
  }
  void deallocate(void* pointer) noexcept override { (void)cudaFree(pointer); }
  void* allocate_pinned(uint64_t bytes) override {
    void* pointer = nullptr;
    if (const cudaError_t error = cudaHostAlloc(&pointer, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
        error != cudaSuccess) {
      (void)cudaGetLastError();
      if (error != cudaErrorMemoryAllocation) check(error, "cudaHostAlloc");
      fail(MPT_ERROR_OUT_OF_MEMORY, "cuda: %llu bytes of pinned host memory could not be allocated",
           static_cast<unsigned long long>(bytes));
    }
    return pointer;
  }
  void deallocate_pinned(void* pointer) noexcept override { (void)cudaFreeHost(pointer); }

  Stream create_stream() override {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return stream;
  }
  void destroy_stream(Stream stream) noexcept override { (void)cudaStreamDestroy(native(stream)); }
  void synchronize(Stream stream) override { check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize"); }

  Event create_event() override {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    return event;
  }
  void destroy_event(Event event) noexcept override { (void)cudaEventDestroy(native_event(event)); }
  void record(Event event, Stream stream) override {
    check(cudaEventRecord(native_event(event), native(stream)), "cudaEventRecord");
  }
  void wait(Stream stream, Event event) override {
    check(cudaStreamWaitEvent(native(stream), native_event(event), 0), "cudaStreamWaitEvent");
  }
  void synchronize_event(Event event) override {
    check(cudaEventSynchronize(native_event(event)), "cudaEventSynchronize");
  }
  bool has_happened(Event event) override {
    const cudaError_t error = cudaEventQuery(native_event(event));
    if (error == cudaErrorNotReady) {
      (void)cudaGetLastError();
      return false;
    }
    check(error, "cudaEventQuery");
    return true;
  }

  void copy_in(Stream stream, void* to, const void* host, uint64_t bytes) override {
    check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, native(stream)), "cudaMemcpyAsync to the device");
  }
  void copy_out(Stream stream, void* host, const void* from, uint64_t bytes) override {
    check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, native(stream)), "cudaMemcpyAsync to the host");
  }
  void copy(Stream stream, void* to, const void* from, uint64_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)), "cudaMemcpyAsync");
  }
  void fill(Stream stream, void* to, int byte, uint64_t bytes) override {
    check(cudaMemsetAsync(to, byte, bytes, native(stream)), "cudaMemsetAsync");
  }

  void begin_recording(Stream stream) override {
    check(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  }
  std::unique_ptr<Recording> end_recording(Stream stream) override {
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(native(stream), &graph), "cudaStreamEndCapture");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
    (void)cudaGraphDestroy(graph);
    check(error, "cudaGraphInstantiate");
    return std::make_unique<CudaRecording>(executable);
  }
  void abandon_recording(Stream stream) noexcept override {
    cudaGraph_t graph = nullptr;
    (void)cudaStreamEndCapture(native(stream), &graph);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
  }

 private:
  int index_;
  DeviceProperties properties_;
};

}  // namespace

int count_cuda_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count;
  (void)cudaGetLastError();
  if (error == cudaErrorNoDevice) return 0;
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  if (error == cudaErrorInsufficientDriver && driver == 0)
    fail(MPT_ERROR_UNSUPPORTED, "there is no CUDA driver on this machine (libcuda.so.1)");
  if (error == cudaErrorInsufficientDriver)
    fail(MPT_ERROR_UNSUPPORTED, "the CUDA driver is too old: it supports CUDA %d.%d, expected %d.%d", driver / 1000,
         driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  fail(MPT_ERROR_UNSUPPORTED, "the CUDA driver reports: %s", cudaGetErrorString(error));
}

std::unique_ptr<Device> make_cuda_device(int index) { return std::make_unique<CudaDevice>(index); }

}  // namespace mpt::cuda
