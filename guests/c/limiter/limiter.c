/* A token bucket: call "take" -> "ok" while there are tokens, "wait" when there are none.
 *
 * It imports no clock. A timer of the host puts one token back every `refill-ms`, and runs only while
 * the bucket is not full, so that an idle limiter can sleep. Config: {"capacity": 10,
 * "refill-ms": 1000}. Call "get" -> the number of tokens. */

#include "paguro.h"

enum { SCHEMA = 1 };

/* The state, as the snapshot has it: little-endian, which wasm is. */
static struct {
    uint64_t tokens;
    uint64_t timer; /* only if `refilling` */
    uint64_t refilling;
} bucket;

static uint64_t capacity = 10, refill_ms = 1000;

static void refill_later(void) {
    worker_list_u8_t token = paguro_bytes("token");
    bucket.timer = paguro_worker_timers_send_after(refill_ms, &token);
    bucket.refilling = 1;
}

static bool configure(exports_paguro_worker_lifecycle_context_t *context, worker_string_t *err) {
    capacity = paguro_config_u64(context->config, "capacity", capacity);
    refill_ms = paguro_config_u64(context->config, "refill-ms", refill_ms);
    if (capacity == 0 || refill_ms == 0) {
        worker_string_dup(err, "capacity and refill-ms must be more than 0");
        return false;
    }
    return true;
}

bool exports_paguro_worker_lifecycle_init(exports_paguro_worker_lifecycle_context_t *context,
                                          worker_string_t *err) {
    bucket.tokens = 0;
    if (!configure(context, err)) return false;
    bucket.tokens = capacity;
    return true;
}

/* After a crash the timer is gone, after an upgrade it is not: take back what there may be. */
bool exports_paguro_worker_lifecycle_resume(exports_paguro_worker_lifecycle_context_t *context,
                                            worker_string_t *err) {
    if (!configure(context, err)) return false;
    if (bucket.tokens > capacity) bucket.tokens = capacity;
    if (bucket.refilling) paguro_worker_timers_cancel(bucket.timer);
    bucket.refilling = 0;
    if (bucket.tokens < capacity) refill_later();
    return true;
}

void exports_paguro_worker_lifecycle_terminate(exports_paguro_worker_lifecycle_exit_reason_t *why) {
    (void)why;
}

bool exports_paguro_worker_handler_handle_call(uint64_t call, worker_list_u8_t *request,
                                               worker_option_list_u8_t *ret, worker_string_t *err) {
    (void)call;
    if (paguro_is(request, "get")) return paguro_answer(ret, "%llu", bucket.tokens);
    if (!paguro_is(request, "take")) return paguro_refuse(err, "neither take nor get");
    if (bucket.tokens == 0) return paguro_answer(ret, "\"wait\"");
    bucket.tokens -= 1;
    if (!bucket.refilling) refill_later();
    return paguro_answer(ret, "\"ok\"");
}

bool exports_paguro_worker_handler_handle_cast(worker_list_u8_t *message, worker_string_t *err) {
    (void)message;
    return paguro_refuse(err, "this worker takes no casts");
}

bool exports_paguro_worker_handler_handle_info(exports_paguro_worker_handler_info_t *info,
                                               worker_string_t *err) {
    (void)err;
    if (info->tag != EXPORTS_PAGURO_WORKER_HANDLER_INFO_TIMER) return true;
    bucket.refilling = 0;
    if (bucket.tokens < capacity) bucket.tokens += 1;
    if (bucket.tokens < capacity) refill_later();
    return true;
}

bool exports_paguro_worker_state_save_state(exports_paguro_worker_state_snapshot_t *ret,
                                            worker_string_t *err) {
    (void)err;
    ret->schema = SCHEMA;
    worker_string_dup(&ret->media_type, "application/octet-stream");
    ret->data = paguro_copy(&bucket, sizeof bucket);
    return true;
}

bool exports_paguro_worker_state_restore_state(exports_paguro_worker_state_snapshot_t *snapshot,
                                               worker_string_t *err) {
    if (snapshot->schema != SCHEMA || snapshot->data.len != sizeof bucket)
        return paguro_refuse(err, "not a snapshot of this limiter");
    memcpy(&bucket, snapshot->data.ptr, sizeof bucket);
    return true;
}

bool exports_paguro_worker_state_upgrade_state(exports_paguro_worker_state_snapshot_t *old,
                                               exports_paguro_worker_state_snapshot_t *ret,
                                               worker_string_t *err) {
    if (old->schema != SCHEMA || old->data.len != sizeof bucket)
        return paguro_refuse(err, "only schema 1 is known");
    *ret = *old; /* owned by us, and given on */
    return true;
}
