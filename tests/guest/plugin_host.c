/* A host that loads libmpt.so as a plug-in, trains and unloads it: plugin_host LIBMPT. What a guest must leave alone is
 * looked at all the while: standard output and error, the number of threads, the floating-point mode, signal handlers,
 * locale, errno. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fenv.h>
#include <locale.h>
#include <mpt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#define BATCH 4096
#define INPUTS 32
#define STEPS 4
#define WEIGHTS (64 * INPUTS + 64 + 4 * 64 + 4)
#define SENTINEL 4711 /* no errno of any system */

static int failures;
static FILE* screen; /* the real standard error */
#define CHECK(condition, ...)                                         \
  do {                                                                \
    if (!(condition)) {                                               \
      ++failures;                                                     \
      fprintf(screen, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      fprintf(screen, __VA_ARGS__);                                   \
      fputc('\n', screen);                                            \
    }                                                                 \
  } while (0)

/* The library's functions, each found by its name. */
/* clang-format off */
#define FUNCTIONS(X) \
  X(mpt_version) X(mpt_build_info) X(mpt_status_name) X(mpt_dtype_size) X(mpt_last_error_message) \
  X(mpt_context_options_init) X(mpt_context_create) X(mpt_context_threads) X(mpt_context_destroy) \
  X(mpt_model_create) X(mpt_model_check) X(mpt_model_destroy) X(mpt_model_dim) X(mpt_input) X(mpt_linear) \
  X(mpt_gelu) X(mpt_layer_norm) X(mpt_dropout) X(mpt_cross_entropy) X(mpt_scale) X(mpt_params_options_init) \
  X(mpt_params_create) X(mpt_params_destroy) X(mpt_params_count) X(mpt_params_name) X(mpt_params_tensor) \
  X(mpt_params_get) X(mpt_optimizer_options_init) X(mpt_optimizer_create) X(mpt_optimizer_destroy) \
  X(mpt_scaler_create) X(mpt_scaler_destroy) X(mpt_trainer_create) X(mpt_trainer_destroy) X(mpt_trainer_step) \
  X(mpt_step_result_init) X(mpt_trainer_save) X(mpt_trainer_load) X(mpt_trainer_evaluate)
/* clang-format on */
#define DECLARE(name) static __typeof__(name)* p_##name;
FUNCTIONS(DECLARE)

static void* load(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(screen, "%s\n", dlerror());
    exit(1);
  }
#define FIND(name)                                  \
  *(void**)&p_##name = dlsym(library, #name);       \
  if (p_##name == NULL) {                           \
    fprintf(screen, "%s is not exported\n", #name); \
    exit(1);                                        \
  }
  FUNCTIONS(FIND)
  return library;
}

static int threads_now(void) {
  DIR* folder = opendir("/proc/self/task");
  int count = 0;
  for (struct dirent* entry; folder != NULL && (entry = readdir(folder)) != NULL;) count += entry->d_name[0] != '.';
  if (folder != NULL) closedir(folder);
  return count;
}

static double process_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_milliseconds(long ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

/* The floating-point mode, flags included, as a number. */
static unsigned float_mode(void) {
#if defined(__SSE__)
  return _mm_getcsr();
#else
  return (unsigned)fegetround() << 8 | (unsigned)fetestexcept(FE_ALL_EXCEPT);
#endif
}

/* What a simulation may have set: rounding upwards, subnormals flushed, traps on invalid operations, divisions by zero and
 * overflow. */
static void set_hostile_mode(void) {
  fesetround(FE_UPWARD);
#if defined(__SSE__)
  const unsigned flush = 0x8040, traps = _MM_MASK_INVALID | _MM_MASK_DIV_ZERO | _MM_MASK_OVERFLOW;
  _mm_setcsr((_mm_getcsr() | flush) & ~(traps | _MM_EXCEPT_MASK));
#endif
}

static unsigned mode_before;
/* A call must succeed and leave errno and the floating-point mode as they were. */
#define CALL(call)                                                                             \
  do {                                                                                         \
    errno = SENTINEL;                                                                          \
    mode_before = float_mode();                                                                \
    const mpt_status status_ = (call);                                                         \
    CHECK(status_ == MPT_OK, "%s %s", p_mpt_status_name(status_), p_mpt_last_error_message()); \
    CHECK(errno == SENTINEL, "errno is %d", errno);                                            \
    CHECK(float_mode() == mode_before, "the mode is %#x, was %#x", float_mode(), mode_before); \
  } while (0)
/* The same of calls without a status. */
#define KEEP(call)                                                                             \
  do {                                                                                         \
    errno = SENTINEL;                                                                          \
    mode_before = float_mode();                                                                \
    call;                                                                                      \
    CHECK(errno == SENTINEL, "errno is %d after %s", errno, #call);                            \
    CHECK(float_mode() == mode_before, "the mode is %#x, was %#x", float_mode(), mode_before); \
  } while (0)

static float x[BATCH * INPUTS];
static int32_t y[BATCH];

static void make_data(void) {
  uint32_t state = 1;
  for (int i = 0; i < BATCH * INPUTS; ++i) {
    state = state * 1664525u + 1013904223u;
    x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
  }
  /* Subnormal numbers, which a host that flushes them would lose. */
  for (int i = 0; i < BATCH; ++i) x[i * INPUTS + INPUTS - 1] = 1e-40f;
  for (int i = 0; i < BATCH; ++i) y[i] = (x[i * INPUTS] > 0) + 2 * (x[i * INPUTS + 1] > 0);
}

/* Trains in FP16 with `threads` threads and gives the weights; *most is the greatest number of threads seen. */
static void train(int threads, float* weights, int* most) {
  const int before = threads_now();
  mpt_context* ctx = NULL;
  mpt_model* m = NULL;
  mpt_params* p = NULL;
  mpt_optimizer* opt = NULL;
  mpt_scaler* sc = NULL;
  mpt_trainer* t = NULL;
  mpt_context_options co;
  CALL(p_mpt_context_options_init(&co, sizeof co));
  co.threads = threads;
  co.seed = 3;
  CALL(p_mpt_context_create(&ctx, &co));
  CHECK(threads_now() == before, "%d threads after mpt_context_create, %d before", threads_now(), before);
  CALL(p_mpt_model_create(&m, ctx));
  int64_t batch = 0;
  KEEP(batch = p_mpt_model_dim(m, "batch"));
  const int64_t xs[] = {batch, INPUTS}, ys[] = {batch};
  mpt_tensor in = 0, label = 0, h = 0, loss = 0;
  KEEP(in = p_mpt_input(m, "x", MPT_FLOAT32, 2, xs));
  KEEP(label = p_mpt_input(m, "y", MPT_INT32, 1, ys));
  KEEP(h = p_mpt_linear(m, "fc1", p_mpt_scale(m, in, 1.0 / 3, 0.1), 64, NULL));
  KEEP(h = p_mpt_dropout(m, p_mpt_gelu(m, h), 0.1));
  KEEP(loss = p_mpt_cross_entropy(m, p_mpt_linear(m, "fc2", h, 4, NULL), label, NULL));
  CALL(p_mpt_model_check(m));
  mpt_params_options po;
  CALL(p_mpt_params_options_init(&po, sizeof po));
  po.precision = MPT_PRECISION_FP16;
  CALL(p_mpt_params_create(&p, m, &po));
  mpt_optimizer_options oo;
  CALL(p_mpt_optimizer_options_init(&oo, sizeof oo));
  oo.learning_rate = 0.01;
  CALL(p_mpt_optimizer_create(&opt, p, &oo));
  CALL(p_mpt_scaler_create(&sc, ctx, NULL));
  CALL(p_mpt_trainer_create(&t, loss, p, opt, sc, NULL));
  mpt_array in_arrays[2];
  memset(in_arrays, 0, sizeof in_arrays);
  in_arrays[0].name = "x";
  in_arrays[0].data = x;
  in_arrays[0].dtype = MPT_FLOAT32;
  in_arrays[0].rank = 2;
  in_arrays[0].shape[0] = in_arrays[1].shape[0] = BATCH;
  in_arrays[0].shape[1] = INPUTS;
  in_arrays[1].name = "y";
  in_arrays[1].data = y;
  in_arrays[1].dtype = MPT_INT32;
  in_arrays[1].rank = 1;
  mpt_step_result r;
  CALL(p_mpt_step_result_init(&r, sizeof r));
  for (int i = 0; i < STEPS; ++i) {
    CALL(p_mpt_trainer_step(t, in_arrays, 2, &r));
    if (threads_now() > *most) *most = threads_now();
  }
  CHECK(r.applied_steps == STEPS, "%lld steps were applied", (long long)r.applied_steps);
  double value = 0;
  CALL(p_mpt_trainer_evaluate(t, in_arrays, 2, 0, &value));
  CALL(p_mpt_trainer_save(t, "guest_plugin.safetensors"));
  CALL(p_mpt_trainer_load(t, "guest_plugin.safetensors"));
  remove("guest_plugin.safetensors");
  /* A failure leaves all of it alone too. */
  errno = SENTINEL;
  mode_before = float_mode();
  const mpt_status missing = p_mpt_trainer_load(t, "there/is/no/such.safetensors");
  CHECK(missing == MPT_ERROR_IO, "%s", p_mpt_status_name(missing));
  CHECK(errno == SENTINEL && float_mode() == mode_before, "errno is %d, the mode is %#x", errno, float_mode());

  int64_t filled = 0;
  for (int32_t i = 0; i < p_mpt_params_count(p); ++i) {
    mpt_array part;
    CALL(p_mpt_params_tensor(p, p_mpt_params_name(p, i), MPT_PART_MASTER, &part));
    int64_t count = 1;
    for (int32_t k = 0; k < part.rank; ++k) count *= part.shape[k];
    if (filled + count > WEIGHTS) {
      CHECK(filled + count <= WEIGHTS, "more than %d weights", WEIGHTS);
      break;
    }
    part.data = weights + filled;
    part.dtype = MPT_FLOAT32;
    CALL(p_mpt_params_get(p, p_mpt_params_name(p, i), MPT_PART_MASTER, &part));
    filled += count;
  }
  CHECK(filled == WEIGHTS, "%lld weights, expected %d", (long long)filled, WEIGHTS);
  KEEP(p_mpt_context_destroy(ctx));
  KEEP(p_mpt_model_destroy(m));
  KEEP(p_mpt_params_destroy(p));
  KEEP(p_mpt_optimizer_destroy(opt));
  KEEP(p_mpt_scaler_destroy(sc));
  KEEP(p_mpt_trainer_destroy(t));
}

struct signals {
  struct sigaction action[65];
  sigset_t mask;
};

static void read_signals(struct signals* out) {
  memset(out, 0, sizeof *out);
  for (int i = 1; i <= 64; ++i) sigaction(i, NULL, &out->action[i]);
  sigemptyset(&out->mask);
  pthread_sigmask(SIG_SETMASK, NULL, &out->mask);
}

static void compare_signals(const struct signals* before, const struct signals* after) {
  for (int i = 1; i <= 64; ++i) {
    const struct sigaction *a = &before->action[i], *b = &after->action[i];
    CHECK(a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags, "signal %d has another handler", i);
    CHECK(sigismember(&before->mask, i) == sigismember(&after->mask, i), "signal %d is masked or no more", i);
  }
}

static void own_handler(int number) {
  if (number == SIGFPE) _exit(3); /* a trap of the host's went off inside the library */
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: plugin_host LIBMPT\n");
    return 2;
  }
  /* From here on standard output and error are a file, which must stay empty. */
  screen = fdopen(dup(2), "w");
  FILE* printed = tmpfile();
  if (screen == NULL || printed == NULL || dup2(fileno(printed), 1) < 0 || dup2(fileno(printed), 2) < 0) return 2;

  signal(SIGFPE, own_handler);
  signal(SIGUSR1, own_handler);
  static struct signals signals_before, signals_after;
  read_signals(&signals_before);
  char locale_before[256];
  snprintf(locale_before, sizeof locale_before, "%s", setlocale(LC_ALL, NULL));
  make_data();

  const int threads_before = threads_now();
  void* library = load(argv[1]);
  CHECK(threads_now() == threads_before, "%d threads after loading, %d before", threads_now(), threads_before);
  CHECK(p_mpt_version()[0] != '\0', "mpt_version is empty");
  CHECK(p_mpt_build_info()[0] != '\0', "mpt_build_info is empty");
  CHECK(p_mpt_dtype_size(MPT_FLOAT16) == 2, "mpt_dtype_size");
  CHECK(threads_now() == threads_before, "%d threads before a context exists, %d before loading", threads_now(),
        threads_before);

  static float alone[WEIGHTS], several[WEIGHTS], hostile[WEIGHTS];
  int most = 0;
  train(1, alone, &most);
  CHECK(most == threads_before, "%d threads with a context of 1 thread, %d before", most, threads_before);
  most = 0;
  train(4, several, &most);
  CHECK(most <= threads_before + 3, "%d threads with a context of 4 threads, %d before", most, threads_before);
  CHECK(memcmp(alone, several, sizeof alone) == 0, "the weights differ with 4 threads");

  fenv_t ordinary;
  fegetenv(&ordinary);
  set_hostile_mode();
  most = 0;
  train(4, hostile, &most);
  fesetenv(&ordinary);
  CHECK(memcmp(alone, hostile, sizeof alone) == 0, "the weights differ in another floating-point mode");

  /* After the last context the workers sleep: nothing of the library uses time, and no thread was added. */
  CHECK(threads_now() <= threads_before + 3, "%d threads after the last context, %d before", threads_now(),
        threads_before);
  pause_milliseconds(200);
  const double used = process_seconds();
  pause_milliseconds(300);
  CHECK(process_seconds() - used < 0.05, "%.3f s of processor time in 0.3 s of rest", process_seconds() - used);

  read_signals(&signals_after);
  compare_signals(&signals_before, &signals_after);
  CHECK(strcmp(locale_before, setlocale(LC_ALL, NULL)) == 0, "the locale is %s, was %s", setlocale(LC_ALL, NULL),
        locale_before);
  /* Unloading while workers may sleep inside it must not pull the code away from under them. */
  CHECK(dlclose(library) == 0, "dlclose");
  pause_milliseconds(200);
  fflush(NULL);
  const long bytes = lseek(fileno(printed), 0, SEEK_END);
  if (bytes != 0) {
    static char text[2000];
    const ssize_t got = pread(fileno(printed), text, sizeof text - 1, 0);
    CHECK(bytes == 0, "%ld bytes were printed: %.*s", bytes, (int)got, text);
  }
  fprintf(screen, "%d failures\n", failures);
  return failures != 0;
}
