#include "text/script.h"

int fm_script_of(uint32_t cp) {
    size_t lo = 0, hi = fm_script_range_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (fm_script_ranges[mid].last < cp) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < fm_script_range_count && fm_script_ranges[lo].first <= cp ? fm_script_ranges[lo].script : FM_SCRIPT_ANY;
}
