/* Parts of an answer. What could be the beginning of a mark is held back; a call that turns out to be none is text. */
#include "serve/answer_reader.h"

#include <string.h>

enum { START, THINK, LEAD, TEXT, OBJECT, BETWEEN, HEADER, FENCED, DROP };
/* Inside of an object. */
enum { BEFORE, KEY_OR_END, KEY, COLON, VALUE_BEGIN, VALUE, COMMA_OR_END };

#define PYTHON_TAG "<|python_tag|>"

void fm_answer_reader_init(fm_answer_reader *r, const fm_chat_plan *plan, fm_answer_part_fn fn, void *user) {
    *r = (fm_answer_reader){.plan = *plan, .tools = plan->tools, .fn = fn, .user = user};
    r->state = plan->keep_reasoning || !plan->reasons ? LEAD : plan->thinking ? THINK : START;
}

void fm_answer_reader_deinit(fm_answer_reader *r) {
    fm_str *all[] = {&r->held, &r->blanks, &r->raw, &r->key, &r->value, &r->name, &r->arguments};
    for (size_t i = 0; i < FM_ARRAY_LEN(all); i++) {
        fm_str_free(all[i]);
    }
}

static bool blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool calls_allowed(const fm_answer_reader *r) {
    return r->plan.choice != FM_TOOLS_NONE && r->tools && !(r->plan.one_call && r->n_calls > 0);
}

/* Removes the first n bytes. */
static void consume(fm_answer_reader *r, size_t n) {
    memmove(r->held.data, r->held.data + n, r->held.len - n);
    r->held.len -= n;
    r->held.data[r->held.len] = '\0';
}

/* The first n held bytes are of this part; blanks at its beginning and end are left out around other parts. */
static void hand_out(fm_answer_reader *r, fm_answer_part part, size_t n) {
    const char *p = r->held.data;
    size_t end = n, skip = 0;
    bool trims = part == FM_PART_REASONING || calls_allowed(r) || r->n_calls > 0 || r->plan.reasons;
    while (trims && !r->any_text && skip < n && blank(p[skip])) {
        skip++;
    }
    while (trims && end > skip && blank(p[end - 1])) {
        end--;
    }
    if (end > skip) {
        if (r->blanks.len > 0) {
            r->fn(r->user, part, r->blanks.data, r->blanks.len);
            fm_str_clear(&r->blanks);
        }
        r->fn(r->user, part, p + skip, end - skip);
        r->any_text = true;
    }
    fm_str_append(&r->blanks, p + end, n - end);
    if (n > 0) {
        consume(r, n);
    }
}

/* Bytes before the mark, or before what may be its beginning at the end of what is held. */
static size_t before(const fm_answer_reader *r, const char *mark, bool *found) {
    size_t n = strlen(mark), len = r->held.len;
    const char *p = r->held.data;
    *found = false;
    for (size_t i = 0; i < len; i++) {
        size_t k = FM_MIN(n, len - i);
        if (p[i] == mark[0] && memcmp(p + i, mark, k) == 0) {
            *found = k == n;
            return i;
        }
    }
    return len;
}

/* What is held begins with the mark (1), may do so (0), does not (-1). */
static int begins(const fm_answer_reader *r, const char *mark) {
    size_t k = FM_MIN(strlen(mark), r->held.len);
    return memcmp(r->held.data ? r->held.data : "", mark, k) != 0 ? -1 : k == strlen(mark);
}

static void skip_blanks(fm_answer_reader *r) {
    size_t n = 0;
    while (n < r->held.len && blank(r->held.data[n])) {
        n++;
    }
    if (n > 0) {
        consume(r, n);
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void begin_call(fm_answer_reader *r) {
    fm_str *all[] = {&r->raw, &r->key, &r->value, &r->name, &r->arguments};
    for (size_t i = 0; i < FM_ARRAY_LEN(all); i++) {
        fm_str_clear(all[i]);
    }
    r->named = r->has_arguments = r->in_string = r->escaped = r->streams = false;
    r->at = BEFORE;
    r->depth = 0;
    fm_str_clear(&r->blanks);
}

static void call_named(fm_answer_reader *r) {
    r->named = true;
    r->n_calls++;
    r->fn(r->user, FM_PART_CALL, r->name.data ? r->name.data : "", r->name.len);
    if (r->arguments.len > 0) {
        r->fn(r->user, FM_PART_ARGUMENTS, r->arguments.data, r->arguments.len);
        fm_str_clear(&r->arguments);
    }
    fm_str_clear(&r->raw);
}

/* A value of the object is whole. False when the object is no call. */
static bool end_value(fm_answer_reader *r) {
    const char *key = r->key.data ? r->key.data : "";
    bool arguments = strcmp(key, "\"arguments\"") == 0 || strcmp(key, "\"parameters\"") == 0;
    fm_json *v = NULL;
    size_t n = 0;
    if (r->streams) {
        r->fn(r->user, FM_PART_ARGUMENTS, r->value.data ? r->value.data : "", r->value.len);
    } else if (arguments) { /* as an object, or as a string that has the text of one */
        if (r->value.len > 0 && r->value.data[0] == '"' &&
            fm_json_parse(&v, r->value.data, r->value.len, "call") == FM_OK) {
            const char *text = fm_json_str(v, &n);
            fm_str_append(&r->arguments, text ? text : "", n);
        } else {
            fm_str_append(&r->arguments, r->value.data ? r->value.data : "", r->value.len);
        }
        if (r->named) {
            r->fn(r->user, FM_PART_ARGUMENTS, r->arguments.data ? r->arguments.data : "", r->arguments.len);
        }
    } else if (strcmp(key, "\"name\"") == 0 && !r->named) {
        const char *name = fm_json_parse(&v, r->value.data, r->value.len, "call") == FM_OK ? fm_json_str(v, &n) : NULL;
        if (!name || n == 0 || (!r->plan.format->begin && !fm_chat_plan_has_tool(&r->plan, name))) {
            fm_json_free(v);
            return false;
        }
        fm_str_append(&r->name, name, n);
        call_named(r);
    }
    r->has_arguments = r->has_arguments || arguments;
    r->streams = false;
    fm_json_free(v);
    fm_str_clear(&r->key);
    fm_str_clear(&r->value);
    return true;
}

/* One byte of a value: true when it ends with this byte. Numbers and words end before one that is not theirs. */
static bool value_byte(fm_answer_reader *r, char c) {
    fm_str_putc(&r->value, c);
    if (r->in_string) {
        bool ends = c == '"' && !r->escaped;
        r->escaped = c == '\\' && !r->escaped;
        r->in_string = !ends;
        return ends && r->depth == 0;
    }
    r->in_string = c == '"';
    r->depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    return r->depth == 0 && (c == '}' || c == ']');
}

/* Takes one byte of an object: 1 = it is whole, 0 = it goes on, -1 = it is no call. */
static int object_byte(fm_answer_reader *r, char c) {
    bool arguments;
    switch (r->at) {
    case BEFORE:
        r->at = c == '{' ? KEY_OR_END : BEFORE;
        return c == '{' || blank(c) ? 0 : -1;
    case KEY_OR_END:
        if (c == '"') {
            r->at = KEY;
            fm_str_putc(&r->key, c);
        }
        return c == '"' || blank(c) ? 0 : -1;
    case KEY:
        fm_str_putc(&r->key, c);
        r->at = c == '"' ? COLON : KEY;
        return 0;
    case COLON:
        r->at = c == ':' ? VALUE_BEGIN : COLON;
        return c == ':' || blank(c) ? 0 : -1;
    case VALUE_BEGIN:
        if (blank(c)) {
            return 0;
        }
        arguments = strcmp(r->key.data, "\"arguments\"") == 0 || strcmp(r->key.data, "\"parameters\"") == 0;
        r->streams = arguments && r->named && c == '{';
        r->depth = 0;
        r->at = VALUE;
        return value_byte(r, c) && !end_value(r) ? -1 : 0;
    case VALUE:
        if (r->depth == 0 && !r->in_string && (c == ',' || c == '}' || blank(c))) {
            r->at = COMMA_OR_END;
            return end_value(r) ? object_byte(r, c) : -1;
        }
        if (value_byte(r, c)) {
            r->at = COMMA_OR_END;
            return end_value(r) ? 0 : -1;
        }
        return 0;
    default:
        r->at = c == ',' ? KEY_OR_END : r->at;
        return c == '}' ? 1 : c == ',' || blank(c) ? 0 : -1;
    }
}

/* True when there is more to look at. */
static bool read_object(fm_answer_reader *r) {
    size_t i = 0;
    int done = 0;
    while (i < r->held.len && done == 0) {
        if (!r->named) {
            fm_str_putc(&r->raw, r->held.data[i]);
        }
        done = object_byte(r, r->held.data[i++]);
    }
    if (i > 0) {
        consume(r, i);
    }
    if (r->streams && r->value.len > 0) {
        r->fn(r->user, FM_PART_ARGUMENTS, r->value.data, r->value.len);
        fm_str_clear(&r->value);
    }
    if (done == 0) {
        return false;
    }
    if (done > 0 && r->named) {
        r->state = BETWEEN;
        return true;
    }
    if (!r->named) { /* text after all */
        fm_str rest = r->held;
        r->held = r->raw;
        r->raw = (fm_str){0};
        hand_out(r, FM_PART_TEXT, r->held.len);
        fm_str_free(&r->held);
        r->held = rest;
    }
    r->state = r->plan.format->begin || !r->named ? TEXT : DROP;
    return true;
}

/* Behind a call: another one, the end of all, or text. */
static bool read_between(fm_answer_reader *r) {
    const fm_tool_format *f = r->plan.format;
    bool deepseek = f->kind == FM_TOOL_DEEPSEEK;
    const char *shut = deepseek ? strchr(f->shut, '<') : f->begin ? "</tool_call>" : NULL;
    skip_blanks(r);
    if (r->held.len == 0) {
        return false;
    }
    if (!f->begin) { /* objects behind each other, with or without a semicolon */
        if (r->held.data[0] == ';' || r->held.data[0] == ',') {
            consume(r, 1);
            return true;
        }
        r->state = r->held.data[0] == '{' && calls_allowed(r) ? OBJECT : DROP;
        begin_call(r);
        return true;
    }
    const char *marks[] = {shut, deepseek ? f->call : f->begin, *f->end ? f->end : shut, "```"};
    bool open = false;
    for (size_t i = 0; i < FM_ARRAY_LEN(marks); i++) {
        int k = begins(r, marks[i]);
        open = open || k == 0;
        if (k > 0 && i == 1) {
            r->state = !calls_allowed(r) ? DROP : deepseek ? HEADER : OBJECT;
            begin_call(r);
            if (!deepseek) { /* else the header begins with it */
                consume(r, strlen(marks[i]));
            }
            return true;
        }
        if (k > 0) {
            consume(r, strlen(marks[i]));
            return true;
        }
    }
    if (!open) {
        r->state = TEXT;
    }
    return !open;
}

/* DeepSeek: <call begin>function<sep>NAME\n```json\n or <call begin>NAME<sep>, up to the arguments. */
static bool read_header(fm_answer_reader *r) {
    static const char sep[] = "<\xef\xbd\x9ctool\xe2\x96\x81sep\xef\xbd\x9c>", fence[] = "```json";
    bool found;
    skip_blanks(r);
    int k = begins(r, r->plan.format->call);
    if (k <= 0) {
        if (k < 0) {
            r->state = TEXT;
        }
        return k < 0;
    }
    size_t at = before(r, sep, &found), from = strlen(r->plan.format->call), to = at;
    if (!found) {
        return false;
    }
    size_t end = at + sizeof sep - 1;
    if (at - from == 8 && memcmp(r->held.data + from, "function", 8) == 0) {
        const char *f = strstr(r->held.data + end, fence);
        if (!f) {
            return false;
        }
        from = end;
        to = (size_t)(f - r->held.data);
        end = to + sizeof fence - 1;
        while (to > from && blank(r->held.data[to - 1])) {
            to--;
        }
    }
    fm_str_append(&r->name, r->held.data + from, to - from);
    consume(r, end);
    call_named(r);
    r->at = VALUE_BEGIN;
    r->state = FENCED;
    return true;
}

/* The arguments, one value. */
static bool read_fenced(fm_answer_reader *r) {
    size_t i = 0;
    bool done = false;
    while (i < r->held.len && !done) {
        char c = r->held.data[i++];
        if (r->at == VALUE_BEGIN && blank(c)) {
            continue;
        }
        if (r->at == VALUE_BEGIN && c != '{' && c != '[') {
            done = true; /* no arguments */
            i--;
            break;
        }
        r->at = VALUE;
        done = value_byte(r, c);
    }
    if (i > 0) {
        consume(r, i);
    }
    if (r->value.len > 0) {
        r->fn(r->user, FM_PART_ARGUMENTS, r->value.data, r->value.len);
        fm_str_clear(&r->value);
    }
    if (done) {
        r->state = BETWEEN;
    }
    return done;
}

/* ---- text ------------------------------------------------------------------------------------ */

static bool read_start(fm_answer_reader *r) {
    size_t n = 0;
    while (n < r->held.len && blank(r->held.data[n])) {
        n++;
    }
    if (n == r->held.len) {
        return false;
    }
    size_t k = FM_MIN(strlen(FM_THINK_BEGIN), r->held.len - n);
    if (memcmp(r->held.data + n, FM_THINK_BEGIN, k) != 0) {
        r->state = LEAD;
        return true;
    }
    if (k < strlen(FM_THINK_BEGIN)) {
        return false;
    }
    consume(r, n + k);
    r->state = THINK;
    return true;
}

static bool read_think(fm_answer_reader *r) {
    bool found;
    hand_out(r, FM_PART_REASONING, before(r, FM_THINK_END, &found));
    if (found) {
        consume(r, strlen(FM_THINK_END));
        fm_str_clear(&r->blanks);
        r->any_text = false;
        r->state = LEAD;
    }
    return found;
}

/* The beginning of the text: without a mark an answer that begins with an object may be a call. */
static bool read_lead(fm_answer_reader *r) {
    size_t n = 0;
    if (r->plan.format->begin || !calls_allowed(r)) {
        r->state = TEXT;
        return true;
    }
    while (n < r->held.len && blank(r->held.data[n])) {
        n++;
    }
    if (n == r->held.len) {
        return false;
    }
    size_t k = FM_MIN(strlen(PYTHON_TAG), r->held.len - n);
    if (memcmp(r->held.data + n, PYTHON_TAG, k) == 0) {
        if (k < strlen(PYTHON_TAG)) {
            return false;
        }
        consume(r, n + k);
        return true;
    }
    r->state = r->held.data[n] == '{' ? OBJECT : TEXT;
    if (r->state == OBJECT) {
        consume(r, n);
        begin_call(r);
    }
    return true;
}

static bool read_text(fm_answer_reader *r) {
    bool found = false;
    const char *mark = r->plan.format->begin;
    size_t n = mark && calls_allowed(r) ? before(r, mark, &found) : r->held.len;
    hand_out(r, FM_PART_TEXT, n);
    if (found) {
        consume(r, strlen(mark));
        begin_call(r);
        r->state = r->plan.format->kind == FM_TOOL_DEEPSEEK ? HEADER : OBJECT;
    }
    return found;
}

fm_status fm_answer_reader_push(fm_answer_reader *r, const char *text, size_t n) {
    static bool (*const step[])(fm_answer_reader *) = {
        [START] = read_start,   [THINK] = read_think,   [LEAD] = read_lead,
        [TEXT] = read_text,     [OBJECT] = read_object, [BETWEEN] = read_between,
        [HEADER] = read_header, [FENCED] = read_fenced, [DROP] = NULL};
    fm_str_append(&r->held, text, n);
    FM_TRY(fm_str_check(&r->held));
    while (r->held.len > 0 && step[r->state] && step[r->state](r)) {
    }
    if (r->state == DROP) {
        fm_str_clear(&r->held);
    }
    FM_TRY(fm_str_check(&r->raw));
    FM_TRY(fm_str_check(&r->value));
    FM_TRY(fm_str_check(&r->key));
    FM_TRY(fm_str_check(&r->blanks));
    FM_TRY(fm_str_check(&r->name));
    return fm_str_check(&r->arguments);
}

fm_status fm_answer_reader_end(fm_answer_reader *r) {
    if (r->state == OBJECT && !r->named && r->raw.len > 0) { /* an object that never became a call */
        fm_str_append(&r->raw, r->held.data ? r->held.data : "", r->held.len);
        FM_TRY(fm_str_check(&r->raw));
        r->fn(r->user, FM_PART_TEXT, r->raw.data, r->raw.len);
    } else if (r->held.len > 0 && (r->state == THINK || r->state == START || r->state == TEXT || r->state == LEAD)) {
        hand_out(r, r->state == THINK ? FM_PART_REASONING : FM_PART_TEXT, r->held.len);
    }
    fm_str_clear(&r->held);
    return FM_OK;
}
