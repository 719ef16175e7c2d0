"""What ./dev gpu needs to know of a machine: its GPU, its CUDA toolkit, and the libraries that lie in Python's wheels. And the kit:
the few small files that such a machine lacks."""

import ctypes
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Of CUdevice_attribute.
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76

# What the kit holds: Debian's package, the files of it that count, and a file without which the kit is of no use.
KIT_PACKAGES = {
    "doctest-dev": (r"/usr/(include|lib/cmake)/", "include/doctest/doctest.h"),
    "nlohmann-json3-dev": (r"/usr/(include|share/cmake)/", "include/nlohmann/json.hpp"),
    "libtbb-dev": (r"/usr/(include|lib)/", "include/tbb/task_arena.h"),
    "libtbb12": (r"/usr/lib/.*\.so", None),
    "libtbbmalloc2": (r"/usr/lib/.*\.so", None),
    "libtbbbind-2-5": (r"/usr/lib/.*\.so", None),
}
KIT_CONFIGS = {"doctest": "doctestConfig.cmake", "nlohmann_json": "nlohmann_jsonConfig.cmake", "TBB": "TBBConfig.cmake"}
FRONTEND = "cudnn_frontend"


class Missing(Exception):
    """A sentence that tells what is not there."""


def find_gpu():
    """Name, compute capability and what the driver supports of the first GPU. Raises Missing where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Missing("there is no CUDA driver on this machine (libcuda.so.1): ./dev gpu needs an NVIDIA GPU") from error
    count, device, version, major, minor = (ctypes.c_int() for _ in range(5))
    name = ctypes.create_string_buffer(128)
    for status in (driver.cuInit(0), driver.cuDeviceGetCount(ctypes.byref(count))):
        if status != 0:
            raise Missing(f"there is a CUDA driver, but it cannot be used (error {status}): ./dev gpu needs an NVIDIA GPU")
    if count.value == 0:
        raise Missing("there is a CUDA driver, but no CUDA device: ./dev gpu needs an NVIDIA GPU")
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    gpu = {"name": name.value.decode(), "architecture": f"{major.value}{minor.value}",
           "driver_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}", "driver": None}
    if shutil.which("nvidia-smi"):
        done = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True,
                              text=True, check=False)
        gpu["driver"] = done.stdout.split("\n")[0].strip() or None
    return gpu


def find_nvcc(environment=None):
    """The CUDA compiler: on the path, or where toolkits are installed."""
    environment = os.environ if environment is None else environment
    folders = [environment[name] for name in ("CUDA_HOME", "CUDA_PATH") if environment.get(name)]
    found = shutil.which("nvcc", path=environment.get("PATH"))
    candidates = [Path(found)] if found else []
    candidates += [Path(folder, "bin/nvcc") for folder in [*folders, "/usr/local/cuda"]]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise Missing("there is no CUDA compiler: found no nvcc on the path, under CUDA_HOME or in /usr/local/cuda/bin")


def toolkit_folders(nvcc, name):
    """The include or library folders of the toolkit that holds this compiler."""
    prefix = nvcc.resolve().parent.parent
    names = {"include": ("include", "targets/*/include"), "lib": ("lib64", "lib", "targets/*/lib")}[name]
    return [folder for pattern in names for folder in sorted(prefix.glob(pattern))]


def find_in(folders, pattern):
    for folder in folders:
        found = sorted(Path(folder).glob(pattern), key=lambda path: (len(path.name), path.name))
        if found:
            return found[0]
    return None


def wheel_folders(site_packages):
    """The folders of the nvidia-* wheels below a site-packages: {"include": [...], "lib": [...]}."""
    root = Path(site_packages, "nvidia")
    return {name: [folder for folder in sorted(root.glob(f"*/{name}")) if folder.is_dir()] for name in ("include", "lib")}


def find_libraries(nvcc, site_packages):
    """Where cuBLASLt and cuDNN are: the toolkit's own, else those of the wheels. cuDNN may be missing."""
    wheels = [wheel_folders(folder) for folder in site_packages]

    def find(kind, pattern):
        return find_in([*toolkit_folders(nvcc, kind), *(folder for wheel in wheels for folder in wheel[kind])], pattern)

    found = {"cublaslt": find("lib", "libcublasLt.so*"), "cublaslt_header": find("include", "cublasLt.h"),
             "cudnn": find("lib", "libcudnn.so*"), "cudnn_header": find("include", "cudnn.h")}
    for name, what in (("cublaslt", "libcublasLt.so"), ("cublaslt_header", "cublasLt.h")):
        if found[name] is None:
            raise Missing(f"found no {what}: neither in the toolkit of {nvcc} nor in the nvidia-* wheels of "
                          f"{', '.join(map(str, site_packages)) or 'a Python'}")
    return found


def site_packages_of(python):
    """Where a Python keeps its packages, and the version of its PyTorch; nothing and None if it can't be run."""
    code = ("import json, site, sysconfig\n"
            "folders = [sysconfig.get_paths()['purelib'], *site.getsitepackages()]\n"
            "try:\n    import torch\n    version = torch.__version__\n"
            "except Exception: version = None\n"
            "print(json.dumps([list(dict.fromkeys(folders)), version]))")
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        folders, version = json.loads(done.stdout)
        return [Path(folder) for folder in folders if Path(folder).is_dir()], version
    except (OSError, ValueError):
        return [], None


def find_torch_python(candidates):
    """The first Python that has PyTorch, else None; and the site-packages of all of them, that one's first."""
    holder, folders = None, []
    for python in dict.fromkeys(str(candidate) for candidate in candidates if candidate):
        own, version = site_packages_of(python)
        if version and holder is None:
            holder, folders = python, own + folders
        else:
            folders += own
    return holder, list(dict.fromkeys(folders))


def cmake_options(nvcc, gpu, libraries, kit, build):
    """What configures build/gpu on this machine."""
    rpath = [build, libraries["cublaslt"].parent]
    options = {
        "CMAKE_BUILD_TYPE": "RelWithDebInfo", "MPT_CUDA": "ON", "MPT_ONEDNN": "OFF", "MPT_TESTS": "ON", "MPT_EXAMPLES": "ON",
        "MPT_BENCH": "ON", "CMAKE_CUDA_COMPILER": nvcc, "CMAKE_CUDA_ARCHITECTURES": f"{gpu['architecture']}-real",
    }
    in_toolkit = set(toolkit_folders(nvcc, "lib") + toolkit_folders(nvcc, "include"))
    if libraries["cublaslt"].parent not in in_toolkit:
        options["CUDA_cublasLt_LIBRARY"] = libraries["cublaslt"]
    if libraries["cublaslt_header"].parent not in in_toolkit:
        options["CMAKE_CXX_FLAGS"] = f"-isystem {libraries['cublaslt_header'].parent}"
    if libraries["cudnn"] and libraries["cudnn_header"]:
        rpath.append(libraries["cudnn"].parent)
        options |= {"MPT_CUDNN_INCLUDE": libraries["cudnn_header"].parent, "MPT_CUDNN_LIBRARY": libraries["cudnn"]}
    options["CMAKE_BUILD_RPATH"] = ";".join(dict.fromkeys(map(str, rpath)))
    if kit:
        options["CMAKE_PREFIX_PATH"] = kit
        for name, file in KIT_CONFIGS.items():
            found = sorted(Path(kit).rglob(file))
            if found:
                options[f"{name}_DIR"] = found[0].parent
        if Path(kit, f"include/{FRONTEND}.h").exists():
            options["MPT_CUDNN_FRONTEND"] = Path(kit, "include")
    return [f"-D{name}={value}" for name, value in options.items()]


# The kit


def make_kit(folder, site_packages, list_package=None):
    """Collects the files into a prefix; returns their count and bytes. `list_package` gives the files of a system package."""
    folder = Path(folder).resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "kit.json").exists():
        raise Missing(f"{folder} is not empty and is no kit: give a folder that is new")
    list_package = list_package or debian_files
    kept = {}
    for package, (pattern, needed) in KIT_PACKAGES.items():
        for name in list_package(package):
            source = Path(name)
            if re.match(pattern, name) and source.is_file():
                kept[Path(name).relative_to("/usr")] = source
        if needed and Path(needed) not in kept:
            raise Missing(f"found no {needed} in the system package {package}, expected it to be installed")
    header = find_in([Path(place, "include") for place in site_packages], f"{FRONTEND}.h")
    if header is None:
        raise Missing(f"found no {FRONTEND}.h under {', '.join(map(str, site_packages))}: install nvidia-cudnn-frontend")
    kept[Path("include", header.name)] = header
    for source in sorted((header.parent / FRONTEND).rglob("*")):
        if source.is_file():
            kept[Path("include") / source.relative_to(header.parent)] = source
    if folder.exists():
        shutil.rmtree(folder)
    for name, source in kept.items():
        copy_kit_file(source, folder, name)
    total = sum((folder / name).stat().st_size for name in kept)
    (folder / "kit.json").write_text(json.dumps({"files": sorted(map(str, kept)), "bytes": total}, indent=1) + "\n")
    return len(kept), total


def copy_kit_file(source, folder, name):
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".cmake":
        shutil.copyfile(source, target)
        return
    # Debian's doctest knows its prefix by name.
    up = "/".join([".."] * len(name.parent.parts))
    target.write_text(source.read_text().replace('set(_IMPORT_PREFIX "/usr")',
                                                 f'set(_IMPORT_PREFIX "${{CMAKE_CURRENT_LIST_DIR}}/{up}")'))


def debian_files(package):
    done = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()
