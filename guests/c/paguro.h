/* Short names and small helpers for workers in C, over the bindings that wit-bindgen makes of
 * wit/worker.wit. Only a header, so that a worker is one file.
 *
 * Who owns what: a worker owns every argument that it is called with, and frees it; what it returns
 * must be on the heap, and is freed for it. The helpers below do both. */

#ifndef PAGURO_H
#define PAGURO_H

/* For a worker whose state is one number: the exports of `state`, which keep it as {"NAME": number}.
 * Wants a world that exports `state`. */
#define PAGURO_STATE_NUMBER(SCHEMA, NAME)                                                          \
    bool exports_paguro_worker_state_save_state(exports_paguro_worker_state_snapshot_t *snapshot,  \
                                                paguro_error_t *error) {                           \
        return paguro_save_number(snapshot, SCHEMA, #NAME, NAME);                                  \
    }                                                                                              \
    bool exports_paguro_worker_state_restore_state(                                                \
        exports_paguro_worker_state_snapshot_t *snapshot, paguro_error_t *error) {                 \
        paguro_text_t json = {snapshot->data.ptr, snapshot->data.len};                             \
        NAME = paguro_number(json, #NAME, 0);                                                      \
        exports_paguro_worker_state_snapshot_free(snapshot);                                       \
        return true;                                                                               \
    }                                                                                              \
    bool exports_paguro_worker_state_upgrade_state(exports_paguro_worker_state_snapshot_t *old,    \
                                                   exports_paguro_worker_state_snapshot_t *now,    \
                                                   paguro_error_t *error) {                        \
        if (old->schema == SCHEMA) {                                                               \
            *now = *old; /* ours, and given on */                                                  \
            return true;                                                                           \
        }                                                                                          \
        exports_paguro_worker_state_snapshot_free(old);                                            \
        return paguro_refuse(error, "that schema is not known");                                   \
    }

#include "worker.h"

#include <stdlib.h>
#include <string.h>

typedef paguro_worker_types_payload_t paguro_bytes_t;
typedef worker_string_t paguro_text_t;
typedef worker_string_t paguro_error_t;
typedef paguro_worker_types_snapshot_t paguro_snapshot_t;
typedef exports_paguro_worker_handler_option_payload_t paguro_answer_t;
typedef exports_paguro_worker_handler_info_t paguro_info_t;

#define handle_call exports_paguro_worker_handler_handle_call
#define handle_cast exports_paguro_worker_handler_handle_cast
#define handle_info exports_paguro_worker_handler_handle_info

/* A copy on the heap, to be returned or sent. */
static inline paguro_bytes_t paguro_copy(const void *data, size_t len) {
    paguro_bytes_t bytes = {malloc(len ? len : 1), len};
    if (!bytes.ptr) abort();
    memcpy(bytes.ptr, data, len);
    return bytes;
}

/* Takes a message and returns it as a word, without the quotes that JSON puts around it. Longer
 * ones are cut. Valid until the next call. */
static inline const char *paguro_word(paguro_bytes_t *message) {
    static char word[64];
    const char *from = (const char *)message->ptr;
    size_t len = message->len;
    if (len >= 2 && from[0] == '"' && from[len - 1] == '"') from += 1, len -= 2;
    if (len >= sizeof word) len = sizeof word - 1;
    memcpy(word, from, len);
    word[len] = 0;
    paguro_worker_types_payload_free(message);
    return word;
}

/* Answers a call with a JSON text. To be returned from `handle_call`. */
static inline bool paguro_answer(paguro_answer_t *answer, const char *json) {
    answer->is_some = true;
    answer->val = paguro_copy(json, strlen(json));
    return true;
}

/* Writes a number in decimal, to the left of `end`, and returns where it begins. */
static inline char *paguro_digits(char *end, uint64_t number) {
    do *--end = (char)('0' + number % 10);
    while (number /= 10);
    return end;
}

/* Answers a call with a number. */
static inline bool paguro_answer_number(paguro_answer_t *answer, uint64_t number) {
    char digits[24] = {0};
    return paguro_answer(answer, paguro_digits(digits + sizeof digits - 1, number));
}

/* Refuses: the caller gets the reason, and the worker carries on. */
static inline bool paguro_refuse(paguro_error_t *error, const char *reason) {
    worker_string_dup(error, reason);
    return false;
}

/* The number of this name in a JSON object, such as a configuration. Enough for a flat object of
 * numbers; anything else wants a JSON library. */
static inline uint64_t paguro_number(paguro_text_t json, const char *name, uint64_t otherwise) {
    size_t len = strlen(name);
    for (size_t i = 0; i + len + 2 <= json.len; i++) {
        const char *at = (const char *)json.ptr + i, *end = (const char *)json.ptr + json.len;
        if (at[0] != '"' || memcmp(at + 1, name, len) != 0 || at[len + 1] != '"') continue;
        uint64_t number = 0;
        for (at += len + 2; at < end && (*at == ' ' || *at == ':');) at++;
        if (at == end || *at < '0' || *at > '9') return otherwise;
        for (; at < end && *at >= '0' && *at <= '9'; at++) number = number * 10 + (uint64_t)(*at - '0');
        return number;
    }
    return otherwise;
}

/* {"name": number}, as a snapshot. To be returned from `save_state`. */
static inline bool paguro_save_number(paguro_snapshot_t *snapshot, uint32_t schema, const char *name,
                                      uint64_t number) {
    char json[128] = "{\"", digits[24] = {0};
    strncat(json, name, 64);
    strcat(strcat(strcat(json, "\":"), paguro_digits(digits + sizeof digits - 1, number)), "}");
    paguro_bytes_t copy = paguro_copy(json, strlen(json));
    snapshot->schema = schema;
    worker_string_dup(&snapshot->media_type, "application/json");
    snapshot->data.ptr = copy.ptr;
    snapshot->data.len = copy.len;
    return true;
}

/* Frees what came with a timer or a monitor. */
static inline bool paguro_ignore(paguro_info_t *info) {
    exports_paguro_worker_handler_info_free(info);
    return true;
}

#endif
