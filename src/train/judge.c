/* Losses and metrics of one head's scores. */
#include "train/judge.h"

#include <math.h>
#include <string.h>

#define MAX_ANSWER 64 /* tokens that an answer may have */

const char *const fm_judge_label_metrics[] = {"eval_accuracy", "eval_f1_macro", "eval_f1_micro", NULL};
const char *const fm_judge_number_metrics[] = {"eval_mse", "eval_mae", "eval_pearson", NULL};
const char *const fm_judge_tag_metrics[] = {"eval_accuracy", "eval_precision", "eval_recall", "eval_f1", NULL};

fm_status fm_judge_init(fm_judge *j, const fm_head_config *h, const fm_json *labels, const char *where,
                        int32_t seq_len) {
    size_t n = (size_t)h->n_labels;
    *j = (fm_judge){.kind = h->kind, .problem = h->problem, .n_outputs = h->n_labels};
    if (h->kind == FM_HEAD_LM || h->kind == FM_HEAD_NONE) {
        return FM_OK;
    }
    bool tags = h->kind == FM_HEAD_TOKEN && h->problem == FM_PROBLEM_SINGLE;
    j->tp = fm_calloc(n, sizeof *j->tp);
    j->fp = fm_calloc(n, sizeof *j->fp);
    j->fn = fm_calloc(n, sizeof *j->fn);
    j->name = tags ? fm_calloc(n, sizeof *j->name) : NULL;
    j->said = tags ? fm_calloc((size_t)seq_len, sizeof *j->said) : NULL;
    j->wanted = tags ? fm_calloc((size_t)seq_len, sizeof *j->wanted) : NULL;
    if (!j->tp || !j->fp || !j->fn || (tags && (!j->name || !j->said || !j->wanted))) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    for (size_t i = 0; tags && labels && i < n; i++) {
        j->name[i] = fm_json_str(fm_json_at(labels, i), NULL);
        if (!j->name[i]) {
            FM_FAIL(FM_ERR_CONFIG, "%s has %zu tags, the model's head %zu", where, fm_json_size(labels), n);
        }
    }
    return FM_OK;
}

void fm_judge_deinit(fm_judge *j) {
    fm_free(j->tp);
    fm_free(j->fp);
    fm_free(j->fn);
    fm_free((void *)j->name);
    fm_free(j->said);
    fm_free(j->wanted);
    *j = (fm_judge){0};
}

/* log(sum exp x) - x[label] over n numbers that stand `stride` apart; *best is the largest. */
static double cross_entropy(const float *x, int32_t n, int32_t stride, int32_t label, int32_t *best) {
    int32_t top = 0;
    double sum = 0;
    for (int32_t l = 1; l < n; l++) {
        top = x[l * stride] > x[top * stride] ? l : top;
    }
    for (int32_t l = 0; l < n; l++) {
        sum += exp((double)x[l * stride] - (double)x[top * stride]);
    }
    *best = top;
    return log(sum) + (double)x[top * stride] - (double)x[label * stride];
}

static double judge_single(fm_judge *j, const float *x, int32_t label) {
    int32_t best;
    double loss = cross_entropy(x, j->n_outputs, 1, label, &best);
    j->n_right += best == label;
    j->tp[label] += best == label;
    j->fn[label] += best != label;
    j->fp[best] += best != label;
    return loss;
}

static double judge_multi(fm_judge *j, const float *x, const float *y) {
    double sum = 0;
    bool all = true;
    for (int32_t l = 0; l < j->n_outputs; l++) {
        bool said = x[l] > 0, holds = y[l] > 0.5F;
        all &= said == holds;
        j->tp[l] += said && holds;
        j->fp[l] += said && !holds;
        j->fn[l] += !said && holds;
        sum += fmax((double)x[l], 0) - (double)x[l] * (double)y[l] + log1p(exp(-fabs((double)x[l])));
    }
    j->n_right += all;
    return sum / j->n_outputs;
}

static double judge_numbers(fm_judge *j, const float *x, const float *y) {
    double sum = 0;
    for (int32_t l = 0; l < j->n_outputs; l++) {
        double a = (double)x[l], b = (double)y[l], e = a - b;
        sum += e * e;
        j->ae += fabs(e);
        j->sx += a;
        j->sy += b;
        j->sxx += a * a;
        j->syy += b * b;
        j->sxy += a * b;
        j->n_numbers++;
    }
    j->se += sum;
    return sum / j->n_outputs;
}

double fm_judge_text(fm_judge *j, const float *scores, int32_t label, const float *values) {
    j->n++;
    return j->problem == FM_PROBLEM_SINGLE  ? judge_single(j, scores, label)
           : j->problem == FM_PROBLEM_MULTI ? judge_multi(j, scores, values)
                                            : judge_numbers(j, scores, values);
}

double fm_judge_tags(fm_judge *j, const float *scores, const int32_t *targets, int32_t n) {
    double sum = 0;
    int64_t count = 0;
    for (int32_t k = 0; k < n; k++) {
        int32_t best, want = targets[k];
        if (want < 0) {
            continue;
        }
        sum += cross_entropy(scores + (int64_t)k * j->n_outputs, j->n_outputs, 1, want, &best);
        j->n++;
        j->n_right += best == want;
        j->said[count] = best;
        j->wanted[count++] = want;
    }
    fm_entities_count(&j->entities, j->name, j->said, j->wanted, count);
    return sum;
}

double fm_judge_span(fm_judge *j, const float *scores, int32_t n, int32_t first, int32_t begin, int32_t end) {
    int32_t b = first, e = first, unused;
    double best = -INFINITY;
    for (int32_t i = first; i < n; i++) {
        for (int32_t k = i; k < FM_MIN(n, i + MAX_ANSWER); k++) {
            double s = (double)scores[2 * i] + (double)scores[2 * k + 1];
            if (s > best) {
                best = s;
                b = i;
                e = k;
            }
        }
    }
    int32_t common = FM_MAX(0, FM_MIN(e, end) - FM_MAX(b, begin) + 1);
    j->n++;
    j->n_right += b == begin && e == end;
    j->f1 += 2.0 * common / (double)(e - b + 1 + end - begin + 1);
    return 0.5 * (cross_entropy(scores, n, 2, begin, &unused) + cross_entropy(scores + 1, n, 2, end, &unused));
}

/* Macro F1 as scikit-learn has it: the mean over labels that occur or were said; micro F1 over all decisions. */
static void f1(const fm_judge *j, double *macro, double *micro) {
    int64_t tp = 0, wrong = 0, labels = 0;
    *macro = 0;
    for (int32_t l = 0; l < j->n_outputs; l++) {
        int64_t w = j->fp[l] + j->fn[l];
        if (j->tp[l] + w > 0 || j->problem == FM_PROBLEM_MULTI) {
            labels++;
            *macro += j->tp[l] > 0 ? 2 * (double)j->tp[l] / (double)(2 * j->tp[l] + w) : 0;
        }
        tp += j->tp[l];
        wrong += w;
    }
    *macro = labels ? *macro / (double)labels : NAN;
    *micro = tp ? 2 * (double)tp / (double)(2 * tp + wrong) : 0;
}

static int number_metrics(const fm_judge *j, fm_metric_value *out) {
    double k = (double)j->n_numbers;
    double cov = j->sxy - j->sx * j->sy / k, vx = j->sxx - j->sx * j->sx / k, vy = j->syy - j->sy * j->sy / k;
    out[0] = (fm_metric_value){"eval_mse", j->se / k};
    out[1] = (fm_metric_value){"eval_mae", j->ae / k};
    out[2] = (fm_metric_value){"eval_pearson", vx > 0 && vy > 0 ? cov / sqrt(vx * vy) : NAN};
    return 3;
}

int fm_judge_metrics(fm_judge *j, fm_metric_value out[FM_MAX_METRICS]) {
    double macro, micro, right = j->n ? (double)j->n_right / (double)j->n : NAN;
    int count = 0;
    if (j->kind == FM_HEAD_TOKEN && j->problem == FM_PROBLEM_SPAN) {
        out[count++] = (fm_metric_value){"eval_em", right};
        out[count++] = (fm_metric_value){"eval_f1", j->n ? j->f1 / (double)j->n : NAN};
    } else if (j->kind == FM_HEAD_TOKEN) {
        out[count++] = (fm_metric_value){"eval_accuracy", right};
        out[count++] = (fm_metric_value){"eval_precision", fm_entity_precision(&j->entities)};
        out[count++] = (fm_metric_value){"eval_recall", fm_entity_recall(&j->entities)};
        out[count++] = (fm_metric_value){"eval_f1", fm_entity_f1(&j->entities)};
    } else if (j->kind == FM_HEAD_TEXT && j->problem == FM_PROBLEM_REGRESSION) {
        count = number_metrics(j, out);
    } else if (j->kind == FM_HEAD_TEXT) {
        f1(j, &macro, &micro);
        out[count++] = (fm_metric_value){"eval_accuracy", right};
        out[count++] = (fm_metric_value){"eval_f1_macro", macro};
        out[count++] = (fm_metric_value){"eval_f1_micro", micro};
    }
    fm_judge fresh = {.kind = j->kind,
                      .problem = j->problem,
                      .n_outputs = j->n_outputs,
                      .name = j->name,
                      .said = j->said,
                      .wanted = j->wanted,
                      .tp = j->tp,
                      .fp = j->fp,
                      .fn = j->fn};
    size_t bytes = (size_t)j->n_outputs * sizeof *j->tp;
    for (int i = 0; j->tp && i < 3; i++) {
        memset((int64_t *[]){j->tp, j->fp, j->fn}[i], 0, bytes);
    }
    *j = fresh;
    return count;
}
