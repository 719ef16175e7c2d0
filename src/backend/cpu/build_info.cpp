// What the CPU backend is made of, for mpt_build_info.
#include <string>

#include "backend/backend.h"
#include "backend/cpu/isa.h"

#ifdef MPT_HAVE_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif

namespace mpt {

std::string cpu_build_info() {
  std::string text = cpu::name_of(cpu::detected_isa());
#ifdef MPT_HAVE_ONEDNN
  const dnnl_version_t* version = dnnl_version();
  text += ", oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
#else
  text += ", no oneDNN";
#endif
  return text;
}

}  // namespace mpt
