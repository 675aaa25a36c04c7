#include "text/script.h"

#include "text/unicode_age.h"

int fm_script_of(uint32_t cp) {
    if (fm_uni_age(cp) > 9) {
        return FM_SCRIPT_ANY;
    }
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

int fm_uni_age_slow(uint32_t cp) {
    size_t lo = 0, hi = fm_age_range_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (fm_age_ranges[mid].last < cp) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < fm_age_range_count && fm_age_ranges[lo].first <= cp ? fm_age_ranges[lo].age : 10;
}
