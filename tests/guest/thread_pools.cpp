// Contexts inside the host's own threads: OpenMP regions, oneTBB tasks, a thread pool. The bits are those of training outside.
#include <doctest/doctest.h>

#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <thread>
#include <vector>

#include "end_to_end/session.h"

using namespace e2e;

namespace {

constexpr int steps = 4;
constexpr int64_t batch = 2048;  // enough that a step is split among threads

Settings settings() {
  Settings s;
  s.precision = MPT_PRECISION_FP16;
  s.dropout = 0.1;
  s.threads = 3;
  return s;
}

std::vector<float> train() {
  Session session(settings());
  for (uint32_t k = 0; k < steps; ++k) {
    Data data(batch, k);
    session.step(data);
  }
  return session.all_weights();
}

const std::vector<float>& outside() {
  static const std::vector<float> weights = train();
  return weights;
}

}  // namespace

#ifdef _OPENMP
TEST_CASE("every thread of an OpenMP region trains a context of its own") {
  constexpr int n = 4;
  outside();
  std::vector<std::vector<float>> weights(n);
#pragma omp parallel for num_threads(n) schedule(static, 1)
  for (int i = 0; i < n; ++i) weights[static_cast<std::size_t>(i)] = train();
  for (const std::vector<float>& one : weights) CHECK(same_bits(one, outside()));
}

TEST_CASE("the master of an OpenMP region trains while the others compute and wait at its barrier") {
  outside();
  std::vector<float> weights;
  double sum = 0;
#pragma omp parallel num_threads(4) reduction(+ : sum)
  {
#pragma omp master
    weights = train();
    for (int i = 0; i < 100000; ++i) sum += 1e-5 * i;
#pragma omp barrier
  }
  CHECK(same_bits(weights, outside()));
  CHECK(sum > 0);
}

TEST_CASE("a context made outside serves the threads of OpenMP regions one after another") {
  Session session(settings());
  for (uint32_t k = 0; k < steps; ++k) {
#pragma omp parallel num_threads(3)
    {
#pragma omp single
      {
        Data data(batch, k);
        session.step(data);
      }
    }
  }
  CHECK(same_bits(session.all_weights(), outside()));
}
#endif

#ifndef MPT_THREAD_SANITIZER
TEST_CASE("tasks of the host's oneTBB train contexts of their own") {
  constexpr int n = 4;
  outside();
  std::vector<std::vector<float>> weights(n);
  tbb::parallel_for(0, n, [&](int i) { weights[static_cast<std::size_t>(i)] = train(); });
  for (const std::vector<float>& one : weights) CHECK(same_bits(one, outside()));
  tbb::task_arena arena(2);
  arena.execute([&] { tbb::parallel_for(0, n, [&](int i) { weights[static_cast<std::size_t>(i)] = train(); }); });
  for (const std::vector<float>& one : weights) CHECK(same_bits(one, outside()));
}

#endif

TEST_CASE("a host that allows oneTBB one thread gets the same bits") {
  Session before(settings());
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, 1);
  for (uint32_t k = 0; k < steps; ++k) {
    Data data(batch, k);
    before.step(data);
  }
  CHECK(same_bits(before.all_weights(), outside()));
  CHECK(same_bits(train(), outside()));
}

TEST_CASE("a thread pool hands contexts from thread to thread") {
  constexpr int sessions = 3, workers = 4;
  struct Job {
    std::unique_ptr<Session> session = std::make_unique<Session>(settings());
    uint32_t next = 0;
    std::atomic<bool> taken{false};
  };
  std::vector<Job> jobs(sessions);
  std::vector<std::thread> pool;
  for (int w = 0; w < workers; ++w)
    pool.emplace_back([&jobs, w] {
      // Each round starts at another job, so that sessions wander.
      for (int round = w, idle = 0; idle < sessions; ++round) {
        Job& job = jobs[static_cast<std::size_t>(round) % sessions];
        if (job.taken.exchange(true, std::memory_order_acquire)) {
          std::this_thread::yield();
          continue;
        }
        if (job.next < steps) {
          Data data(batch, job.next++);
          job.session->step(data);
          idle = 0;
        } else {
          ++idle;
        }
        job.taken.store(false, std::memory_order_release);
      }
    });
  for (std::thread& thread : pool) thread.join();
  for (const Job& job : jobs) CHECK(same_bits(job.session->all_weights(), outside()));
}
