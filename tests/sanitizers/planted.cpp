// Faults for test_planted.py: a sanitizer that does not see these would call anything clean.
#include <cstdlib>
#include <limits>
#include <thread>

extern "C" int overflow(int n) {
  int* memory = static_cast<int*>(std::malloc(n * sizeof(int)));
  const int beyond = memory[n];
  std::free(memory);
  return beyond;
}

extern "C" int undefined(int n) {
  return std::numeric_limits<int>::max() + n;
}

extern "C" int race(int n) {
  int sum = 0;
  const auto add = [&sum, n] {
    for (int i = 0; i < n; ++i) sum += i;
  };
  std::thread other(add);
  add();
  other.join();
  return sum;
}

extern "C" int clean(int n) {
  return n;
}
