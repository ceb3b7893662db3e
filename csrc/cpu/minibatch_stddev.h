#pragma once

#include "../math/minibatch_stddev.h"
#include "simd.h"

namespace gankern::cpu {

// A unit of work is a chunk of the elements of one sample, in all samples of one group; it leaves a part of the sum
// for each appended channel, so that no sum depends on the threads.
constexpr int64_t kStddevChunk = 2048;

inline int64_t stddev_chunks(const MinibatchStddevParams& p) {
  return (p.size() + kStddevChunk - 1) / kStddevChunk;
}

}  // namespace gankern::cpu

// minibatch_stddev: units [begin, end): y = x but for what is appended; partial[unit][f] = sum of deviations.
// minibatch_stddev_append: samples [begin, end): writes statistic[group][f] into the appended channels of y.
// minibatch_stddev_gather: groups [begin, end): statistic[group][f] = sum of the appended channels of dy.
// minibatch_stddev_backward: units: dx, from dy and the gradient statistic[group][f] of each deviation.
// minibatch_stddev_backward_backward: units: dx is the gradient of x, y that of dy but for what is appended, whose
// value is the sum over partial[unit][f].
GANKERN_DECLARE_PER_LEVEL(
    void minibatch_stddev(const MinibatchStddevParams& p, double* partial, int64_t begin, int64_t end);
    void minibatch_stddev_append(const MinibatchStddevParams& p, const double* statistic, int64_t begin, int64_t end);
    void minibatch_stddev_gather(const MinibatchStddevParams& p, double* statistic, int64_t begin, int64_t end);
    void minibatch_stddev_backward(const MinibatchStddevParams& p, const double* statistic, int64_t begin, int64_t end);
    void minibatch_stddev_backward_backward(const MinibatchStddevParams& p, const double* statistic, double* partial,
                                            int64_t begin, int64_t end))
