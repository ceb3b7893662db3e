// parallel_for: torch's threads; in a build with ThreadSanitizer threads of its own.
//
// ThreadSanitizer does not see how OpenMP's library starts and joins its threads: it would report every loop. It sees
// std::thread, so that what is left to report are the races between the parts of one loop, and between callers.
#pragma once

#include <torch/csrc/stable/ops.h>

#ifdef __SANITIZE_THREAD__
#include <algorithm>
#include <thread>
#include <vector>
#endif

namespace gankern::bind {

#ifdef __SANITIZE_THREAD__

// Whatever the grain: the tests' small images are to be shared, too.
template <typename Body>
void parallel_for(int64_t begin, int64_t end, int64_t, const Body& body) {
  constexpr int64_t kThreads = 4;
  const int64_t share = std::max<int64_t>(1, (end - begin + kThreads - 1) / kThreads);
  std::vector<std::thread> threads;
  for (int64_t from = begin; from < end; from += share) {
    threads.emplace_back([&body, from, to = std::min(end, from + share)] { body(from, to); });
  }
  for (std::thread& thread : threads) thread.join();
}

#else

using torch::stable::parallel_for;

#endif

}  // namespace gankern::bind
