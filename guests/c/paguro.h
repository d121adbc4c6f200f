/* Short names and small helpers for workers in C, over the bindings that wit-bindgen makes of
 * wit/worker.wit. Only a header, so that a worker is one file.
 *
 * Who owns what: a worker owns every argument that it is called with, and frees it; what it returns
 * must be on the heap, and is freed for it. The helpers below do both. */

#ifndef PAGURO_H
#define PAGURO_H

#include "worker.h"

#include <stdlib.h>
#include <string.h>

typedef paguro_worker_types_payload_t paguro_bytes_t;
typedef worker_string_t paguro_error_t;
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

/* Answers a call with a number. */
static inline bool paguro_answer_number(paguro_answer_t *answer, uint64_t number) {
    char digits[24], *digit = digits + sizeof digits - 1;
    *digit = 0;
    do *--digit = (char)('0' + number % 10);
    while (number /= 10);
    return paguro_answer(answer, digit);
}

/* Refuses: the caller gets the reason, and the worker carries on. */
static inline bool paguro_refuse(paguro_error_t *error, const char *reason) {
    worker_string_dup(error, reason);
    return false;
}

/* The number of this name in a configuration. Enough for a flat object of numbers; anything else
 * wants a JSON library. */
static inline uint64_t paguro_config_number(worker_string_t config, const char *name,
                                            uint64_t otherwise) {
    size_t len = strlen(name);
    for (size_t i = 0; i + len + 2 <= config.len; i++) {
        const char *at = (const char *)config.ptr + i, *end = (const char *)config.ptr + config.len;
        if (at[0] != '"' || memcmp(at + 1, name, len) != 0 || at[len + 1] != '"') continue;
        uint64_t number = 0;
        for (at += len + 2; at < end && (*at == ' ' || *at == ':');) at++;
        if (at == end || *at < '0' || *at > '9') return otherwise;
        for (; at < end && *at >= '0' && *at <= '9'; at++) number = number * 10 + (uint64_t)(*at - '0');
        return number;
    }
    return otherwise;
}

#endif
