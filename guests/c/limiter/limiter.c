/* A token bucket: call "take" -> "ok" while there are tokens, "wait" when there are none; call "get"
 * -> the number of tokens.
 *
 * It imports no clock. A timer of the host puts one token back every `refill-ms`, and runs only while
 * the bucket is not full, so that an idle limiter can sleep. Config: {"capacity": 10,
 * "refill-ms": 1000}. */

#include "paguro.h"

enum { SCHEMA = 1 };

/* The state, as the snapshot has it: little-endian, which wasm is. */
static struct {
    uint64_t tokens;
    uint64_t timer; /* only if `refilling` */
    uint64_t refilling;
} bucket;

static uint64_t capacity, refill_ms;

static void refill_later(void) {
    paguro_bytes_t message = {(uint8_t *)"token", 5}; /* lent, not given */
    bucket.timer = paguro_worker_timers_send_after(refill_ms, &message);
    bucket.refilling = 1;
}

static bool configure(exports_paguro_worker_lifecycle_context_t *context, paguro_error_t *err) {
    capacity = paguro_number(context->config, "capacity", 10);
    refill_ms = paguro_number(context->config, "refill-ms", 1000);
    exports_paguro_worker_lifecycle_context_free(context);
    if (capacity && refill_ms) return true;
    return paguro_refuse(err, "capacity and refill-ms must be more than 0");
}

bool exports_paguro_worker_lifecycle_init(exports_paguro_worker_lifecycle_context_t *context,
                                          paguro_error_t *err) {
    if (!configure(context, err)) return false;
    bucket.tokens = capacity;
    return true;
}

/* After a crash the timer is gone, after an upgrade it is not: take back what there may be. */
bool exports_paguro_worker_lifecycle_resume(exports_paguro_worker_lifecycle_context_t *context,
                                            paguro_error_t *err) {
    if (!configure(context, err)) return false;
    if (bucket.refilling) paguro_worker_timers_cancel(bucket.timer);
    bucket.refilling = 0;
    if (bucket.tokens > capacity) bucket.tokens = capacity;
    if (bucket.tokens < capacity) refill_later();
    return true;
}

void exports_paguro_worker_lifecycle_terminate(exports_paguro_worker_lifecycle_exit_reason_t *why) {
    exports_paguro_worker_lifecycle_exit_reason_free(why);
}

bool handle_call(uint64_t call, paguro_bytes_t *request, paguro_answer_t *answer, paguro_error_t *err) {
    const char *word = paguro_word(request);
    if (!strcmp(word, "get")) return paguro_answer_number(answer, bucket.tokens);
    if (strcmp(word, "take")) return paguro_refuse(err, "neither take nor get");
    if (!bucket.tokens) return paguro_answer(answer, "\"wait\"");
    bucket.tokens -= 1;
    if (!bucket.refilling) refill_later();
    return paguro_answer(answer, "\"ok\"");
}

bool handle_cast(paguro_bytes_t *message, paguro_error_t *err) {
    paguro_worker_types_payload_free(message);
    return paguro_refuse(err, "this worker takes no casts");
}

bool handle_info(paguro_info_t *info, paguro_error_t *err) {
    bool ours = info->tag == EXPORTS_PAGURO_WORKER_HANDLER_INFO_TIMER && bucket.refilling &&
                info->val.timer.f0 == bucket.timer;
    exports_paguro_worker_handler_info_free(info);
    if (!ours) return true;
    bucket.refilling = 0;
    if (bucket.tokens < capacity) bucket.tokens += 1;
    if (bucket.tokens < capacity) refill_later();
    return true;
}

bool exports_paguro_worker_state_save_state(exports_paguro_worker_state_snapshot_t *snapshot,
                                            paguro_error_t *err) {
    snapshot->schema = SCHEMA;
    worker_string_dup(&snapshot->media_type, "application/octet-stream");
    paguro_bytes_t copy = paguro_copy(&bucket, sizeof bucket);
    snapshot->data = (worker_list_u8_t){copy.ptr, copy.len};
    return true;
}

bool exports_paguro_worker_state_restore_state(exports_paguro_worker_state_snapshot_t *snapshot,
                                               paguro_error_t *err) {
    bool fits = snapshot->schema == SCHEMA && snapshot->data.len == sizeof bucket;
    if (fits) memcpy(&bucket, snapshot->data.ptr, sizeof bucket);
    exports_paguro_worker_state_snapshot_free(snapshot);
    return fits || paguro_refuse(err, "not a snapshot of this limiter");
}

bool exports_paguro_worker_state_upgrade_state(exports_paguro_worker_state_snapshot_t *old,
                                               exports_paguro_worker_state_snapshot_t *upgraded,
                                               paguro_error_t *err) {
    if (old->schema != SCHEMA) {
        exports_paguro_worker_state_snapshot_free(old);
        return paguro_refuse(err, "only schema 1 is known");
    }
    *upgraded = *old; /* ours, and given on */
    return true;
}
