// The devices that a context can be made for, by name: "cpu", "cuda:1", "null:cpu" (plans as "cpu", runs nothing).
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace mpt {

using MakeBackend = std::unique_ptr<Backend>(const BackendOptions& options, int index);

// Throws INVALID_ARGUMENT for a name that is no device's, UNSUPPORTED where it can't be had on this machine.
std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options);

// Adds a kind of device; tests do, for their own. `name` lives for ever.
void register_device(const char* name, MakeBackend* make);

}  // namespace mpt
