/* A database file that is written: SQLite, opened at run time (sqlite_lib.h). */
#ifndef FM_IO_SQL_H
#define FM_IO_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_sql fm_sql;
FM_MUST_CHECK fm_status fm_sql_open(fm_sql **out, const char *path);
void fm_sql_close(fm_sql *s);
/* Statements without results, separated by semicolons. */
FM_MUST_CHECK fm_status fm_sql_exec(fm_sql *s, const char *text);
int64_t fm_sql_last_id(fm_sql *s);

/* One value of a statement: '?' in order. */
typedef enum fm_sql_kind { FM_SQL_NULL, FM_SQL_INT, FM_SQL_REAL, FM_SQL_TEXT } fm_sql_kind;
typedef struct fm_sql_value {
    fm_sql_kind kind;
    int64_t i;
    double d;
    const char *t; /* NULL is null */
} fm_sql_value;
#define FM_SQL_I(v) ((fm_sql_value){.kind = FM_SQL_INT, .i = (v)})
#define FM_SQL_D(v) ((fm_sql_value){.kind = FM_SQL_REAL, .d = (v)}) /* not finite: null */
#define FM_SQL_T(v) ((fm_sql_value){.kind = FM_SQL_TEXT, .t = (v)})

/* A row of results: `column` values, texts until the call returns. */
typedef fm_status (*fm_sql_row_fn)(void *arg, const fm_sql_value *column, int n);
/* Runs one statement; fn NULL drops results. */
FM_MUST_CHECK fm_status fm_sql_run(fm_sql *s, const char *text, const fm_sql_value *value, int n, fm_sql_row_fn fn,
                                   void *arg);

#endif
