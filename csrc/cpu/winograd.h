#pragma once

#include <algorithm>

#include "../math/winograd.h"
#include "simd.h"

// winograd_weight: columns of kWinogradColumns output channels [begin, end).
// winograd_conv2d: units [begin, end) of WinogradUnits.
// winograd_weight_gradient: units [begin, end) of WinogradGradientUnits into `partial`; _sum: input channels of dw.
GANKERN_DECLARE_PER_LEVEL(void winograd_weight(const WinogradWeightParams& p, int64_t begin, int64_t end);
                          void winograd_conv2d(const WinogradConv2dParams& p, int64_t splits, int64_t begin,
                                               int64_t end);
                          int64_t winograd_conv2d_blocks(const WinogradConv2dParams& p);
                          void winograd_weight_gradient(const WinogradWeightGradientParams& p, int64_t begin,
                                                        int64_t end);
                          void winograd_weight_gradient_sum(const WinogradWeightGradientParams& p, int64_t begin,
                                                            int64_t end))
