/* spike_auth_client_sign_users: columns in Arrow's layout, good, mixed and malformed. Sends nothing. */
#define _GNU_SOURCE
#include "check.h"

enum { ROW = SPIKE_AUTH_SIGNATURE_SIZE - 1, MOST = 40, POISON = 0xEE };

static spike_auth_client *client;

/* ---- columns --------------------------------------------------------------------------------------- */

struct column {
    char ids[MOST * 140 + 64];
    int64_t offsets[MOST + 1];
    size_t count;
};

#define TEN_BYTES "xxxxxxxxxx"
#define SIXTY_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES

/* The ids of bad rows. Each breaks the rule in another way; the last has 129 bytes. */
static const struct bad {
    const char *text;
    size_t len;
} BADS[] = {{"", 0}, {" ", 1}, {"a\0b", 3}, {"caf\xc3\xa9", 5}, {"a/b", 3}, {SIXTY_BYTES SIXTY_BYTES "xxxxxxxxx", 129}};

/* Good ids of growing length: some fill one block of SHA-256, some two or three. */
static size_t good_id(char *to, size_t index)
{
    size_t len = 1 + index * 7 % SPIKE_AUTH_USER_ID_MAX;
    for (size_t i = 0; i < len; i++)
        to[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"[(index * 31 + i) % 65];
    return len;
}

static size_t append_id(char *to, size_t index, int bad)
{
    const struct bad *flaw = &BADS[index % COUNT_OF(BADS)];
    if (!bad)
        return good_id(to, index);
    memcpy(to, flaw->text, flaw->len);
    return flaw->len;
}

/* `bad_rows` has a bit for each bad row. */
static struct column column_of(size_t count, uint64_t bad_rows)
{
    struct column column;
    memset(&column, 0, sizeof column);
    column.count = count;
    for (size_t i = 0; i < count; i++) {
        size_t start = (size_t)column.offsets[i];
        size_t len = append_id(column.ids + start, i, (int)(bad_rows >> i & 1));
        column.offsets[i + 1] = (int64_t)(start + len);
    }
    return column;
}

static size_t ids_len(const struct column *column)
{
    return (size_t)column->offsets[column->count];
}

/* ---- outputs --------------------------------------------------------------------------------------- */

struct rows {
    struct buffer signatures;
    struct buffer statuses;
};

static struct rows rows_new(enum buffer_kind kind, size_t count)
{
    struct rows rows = {buffer_new(kind, ROW * count), buffer_new(kind, sizeof(int32_t) * count)};
    return rows;
}

static void rows_poison(struct rows *rows)
{
    memset(rows->signatures.at, POISON, rows->signatures.size);
    memset(rows->statuses.at, POISON, rows->statuses.size);
}

static void rows_free(struct rows *rows)
{
    buffer_free(&rows->signatures);
    buffer_free(&rows->statuses);
}

static int rows_are_untouched(const struct rows *rows)
{
    return all_bytes_are(rows->signatures.at, rows->signatures.size, POISON) &&
           all_bytes_are(rows->statuses.at, rows->statuses.size, POISON);
}

static char *signatures_of(const struct rows *rows)
{
    return (char *)rows->signatures.at;
}

static int32_t *statuses_of(const struct rows *rows)
{
    return (int32_t *)(void *)rows->statuses.at;
}

/* The signature of each good id, by spike_auth_sign_user. */
static const char *expected_signature(size_t index)
{
    static char known[MOST][SPIKE_AUTH_SIGNATURE_SIZE];
    char id[SPIKE_AUTH_USER_ID_MAX];
    size_t len, id_len = good_id(id, index);
    if (known[index][0] == 0)
        REQUIRE(spike_auth_sign_user(KEY, KEY_LEN, id, id_len, known[index], sizeof known[index], &len, NULL) == 0);
    return known[index];
}

static void check_rows(const struct rows *rows, size_t count, uint64_t bad_rows)
{
    for (size_t i = 0; i < count; i++) {
        const unsigned char *row = rows->signatures.at + ROW * i;
        int bad = (int)(bad_rows >> i & 1);
        int right = bad ? all_bytes_are(row, ROW, 0) : memcmp(row, expected_signature(i), ROW) == 0;
        check_that(right, __FILE__, __LINE__, "row %zu is wrong", i);
        CHECK_STATUS(statuses_of(rows)[i], bad ? SPIKE_AUTH_STATUS_INVALID_USER_ID : SPIKE_AUTH_STATUS_OK);
    }
    CHECK(buffer_is_intact(&rows->signatures) && buffer_is_intact(&rows->statuses));
}

static void check_message(const spike_auth_error *err, size_t count, uint64_t bad_rows)
{
    char numbers[64], index[32];
    int bads = __builtin_popcountll(bad_rows);
    if (bads == 0)
        return;
    snprintf(numbers, sizeof numbers, "%d of %zu user ids", bads, count);
    snprintf(index, sizeof index, "at index %d ", __builtin_ctzll(bad_rows));
    CHECK_CONTAINS(err->message, numbers);
    CHECK_CONTAINS(err->message, index);
}

static void check_column(size_t count, uint64_t bad_rows, enum buffer_kind kind)
{
    struct column column = column_of(count, bad_rows);
    struct buffer ids = buffer_new(kind, ids_len(&column));
    struct rows rows = rows_new(kind, count);
    int32_t expected = bad_rows ? SPIKE_AUTH_STATUS_INVALID_USER_ID : SPIKE_AUTH_STATUS_OK;
    spike_auth_error *err = poisoned_error(0);
    in_round("%zu ids, bad ones %#llx", count, (unsigned long long)bad_rows);
    memcpy(ids.at, column.ids, ids.size);
    rows_poison(&rows);
    CHECK_STATUS(spike_auth_client_sign_users(client, (char *)ids.at, ids.size, column.offsets, count,
                                              signatures_of(&rows), rows.signatures.size, statuses_of(&rows), err),
                 expected);
    check_error_is_whole(err, expected, __FILE__, __LINE__);
    check_message(err, count, bad_rows);
    check_rows(&rows, count, bad_rows);
    rows_free(&rows);
    buffer_free(&ids);
}

/* ---- valid columns --------------------------------------------------------------------------------- */

static void every_count_around_the_batch_is_signed(void)
{
    for (size_t count = 0; count <= MOST; count++) {
        check_column(count, 0, GUARDED);
        check_column(count, 0, FENCED);
        check_column(count, (UINT64_C(1) << count) - 1, GUARDED);
    }
}

static void every_mixture_of_good_and_bad_in_a_batch_and_one_more(void)
{
    enum { COUNT = 9 };
    for (uint64_t bad_rows = 0; bad_rows < UINT64_C(1) << COUNT; bad_rows++)
        check_column(COUNT, bad_rows, GUARDED);
}

static void random_mixtures_in_many_batches(void)
{
    uint64_t random = 88172645463325252u; /* xorshift: the same in every run */
    for (int i = 0; i < 200; i++) {
        size_t count;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        count = 10 + (size_t)(random >> 56) % (MOST - 9);
        check_column(count, random & ((UINT64_C(1) << count) - 1), GUARDED);
    }
}

#define SIGN_USERS(ids, ids_len, offsets, count) \
    SIGN_USERS_INTO(ids, ids_len, offsets, count, signatures_of(&rows), rows.signatures.size)
#define SIGN_USERS_INTO(ids, ids_len, offsets, count, signatures, cap) \
    spike_auth_client_sign_users(client, ids, ids_len, offsets, count, signatures, cap, statuses_of(&rows), err)

static void a_slice_of_a_column_starts_and_ends_inside_it(void)
{
    struct column column = column_of(MOST, 0);
    for (size_t start = 0; start < MOST; start += 3) {
        size_t count = (MOST - start) / 2;
        struct rows rows = rows_new(FENCED, count);
        in_round("slice at %zu", start);
        EXPECT(OK, SIGN_USERS(column.ids, ids_len(&column), column.offsets + start, count));
        for (size_t i = 0; i < count; i++)
            CHECK(memcmp(signatures_of(&rows) + ROW * i, expected_signature(start + i), ROW) == 0);
        rows_free(&rows);
    }
}

static void offsets_and_statuses_need_no_alignment(void)
{
    struct column column = column_of(9, 1 << 4);
    struct rows rows = rows_new(GUARDED, 9);
    for (size_t shift = 1; shift < 8; shift++) {
        _Alignas(8) char offsets[8 + sizeof column.offsets];
        _Alignas(8) char statuses[8 + sizeof(int32_t) * 9];
        memcpy(offsets + shift, column.offsets, sizeof column.offsets);
        in_round("shifted by %zu", shift);
        EXPECT(INVALID_USER_ID,
               spike_auth_client_sign_users(client, column.ids, ids_len(&column),
                                            (const int64_t *)(const void *)(offsets + shift), 9, signatures_of(&rows),
                                            rows.signatures.size, (int32_t *)(void *)(statuses + shift), err));
        memcpy(rows.statuses.at, statuses + shift, rows.statuses.size);
        check_rows(&rows, 9, 1 << 4);
    }
    rows_free(&rows);
}

static void the_statuses_may_be_null(void)
{
    struct column column = column_of(20, 1 << 13);
    struct rows rows = rows_new(FENCED, 20);
    rows_poison(&rows);
    EXPECT(INVALID_USER_ID,
           spike_auth_client_sign_users(client, column.ids, ids_len(&column), column.offsets, 20,
                                        signatures_of(&rows), rows.signatures.size, NULL, err));
    CHECK(all_bytes_are(rows.statuses.at, rows.statuses.size, POISON));
    CHECK(all_bytes_are(signatures_of(&rows) + ROW * 13, ROW, 0));
    CHECK(memcmp(signatures_of(&rows) + ROW * 14, expected_signature(14), ROW) == 0);
    rows_free(&rows);
}

static void zero_ids_need_no_pointers(void)
{
    static const int64_t SOME_OFFSET[] = {3};
    struct rows rows = rows_new(GUARDED, 1);
    rows_poison(&rows);
    EXPECT(OK, spike_auth_client_sign_users(client, NULL, 0, NULL, 0, NULL, 0, NULL, err));
    EXPECT(OK, SIGN_USERS(NULL, 0, NULL, 0));
    EXPECT(OK, SIGN_USERS("abc", 3, SOME_OFFSET, 0));
    CHECK(rows_are_untouched(&rows));
    rows_free(&rows);
}

static void empty_ids_are_bad_ids_also_in_a_null_column(void)
{
    static const int64_t ZEROS[MOST + 1];
    struct rows rows = rows_new(FENCED, 11);
    EXPECT(INVALID_USER_ID, SIGN_USERS(NULL, 0, ZEROS, 11));
    check_rows(&rows, 11, 0x7FF);
    rows_free(&rows);
}

static void nothing_is_written_beyond_the_rows(void)
{
    struct column column = column_of(3, 0);
    struct rows rows = rows_new(GUARDED, 5);
    rows_poison(&rows);
    EXPECT(OK, SIGN_USERS(column.ids, ids_len(&column), column.offsets, 3));
    CHECK(all_bytes_are(signatures_of(&rows) + ROW * 3, ROW * 2, POISON));
    CHECK(all_bytes_are(statuses_of(&rows) + 3, sizeof(int32_t) * 2, POISON));
    rows_free(&rows);
}

/* ---- calls that are refused completely: nothing is written ---------------------------------------- */

#define EXPECT_REFUSED(name, call) EXPECT_AROUND(name, call, rows_poison(&rows), CHECK(rows_are_untouched(&rows)))

static void malformed_and_falling_offsets_are_refused_at_every_place(void)
{
    struct rows rows = rows_new(GUARDED, 20);
    for (size_t place = 0; place <= 20; place++) {
        struct column column = column_of(20, 0);
        const int64_t good = column.offsets[place], before = place ? column.offsets[place - 1] : 0;
        const int64_t bad[] = {before - 1, -1, INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1, 1000000};
        size_t len = ids_len(&column);
        for (size_t i = 0; i < COUNT_OF(bad); i++) {
            column.offsets[place] = bad[i];
            in_round("offset %zu is %lld, not %lld", place, (long long)bad[i], (long long)good);
            EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS(column.ids, len, column.offsets, 20));
        }
    }
    rows_free(&rows);
}

static void offsets_beyond_the_ids_are_refused(void)
{
    struct column column = column_of(20, 0);
    struct rows rows = rows_new(GUARDED, 20);
    size_t len = ids_len(&column);
    static const int64_t EMPTY_BEYOND[] = {4, 4};
    EXPECT(OK, SIGN_USERS(column.ids, len, column.offsets, 20));
    EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS(column.ids, len - 1, column.offsets, 20));
    EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS(column.ids, 0, column.offsets, 20));
    EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS("abc", 3, EMPTY_BEYOND, 1));
    rows_free(&rows);
}

static void an_impossible_count_is_refused_before_an_offset_is_read(void)
{
    static const size_t COUNTS[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 8, SIZE_MAX / 64 + 1,
                                    (size_t)PTRDIFF_MAX, (size_t)PTRDIFF_MAX / 64 + 1};
    struct buffer offsets = buffer_fenced(sizeof(int64_t)); /* reading a second one is a fault */
    struct rows rows = rows_new(GUARDED, 1);
    memset(offsets.at, 0, offsets.size);
    for (size_t i = 0; i < COUNT_OF(COUNTS); i++) {
        in_round("count %zu", COUNTS[i]);
        EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS("abc", 3, (const int64_t *)(const void *)offsets.at, COUNTS[i]));
        EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS(NULL, 0, NULL, COUNTS[i]));
    }
    EXPECT_REFUSED(NULL_POINTER, SIGN_USERS("abc", 3, NULL, (size_t)PTRDIFF_MAX / 64));
    rows_free(&rows);
    buffer_free(&offsets);
}

static void one_byte_too_little_is_too_small(void)
{
    for (size_t count = 1; count <= 17; count++) {
        struct column column = column_of(count, 0);
        struct rows rows = rows_new(GUARDED, count);
        const size_t caps[] = {0, 1, ROW - 1, ROW * count - 1};
        for (size_t i = 0; i < COUNT_OF(caps); i++) {
            in_round("%zu ids, capacity %zu", count, caps[i]);
            EXPECT_REFUSED(BUFFER_TOO_SMALL, SIGN_USERS_INTO(column.ids, ids_len(&column), column.offsets, count,
                                                             signatures_of(&rows), caps[i]));
        }
        rows_free(&rows);
    }
}

static void each_pointer_is_required_and_each_length_checked(void)
{
    struct column column = column_of(3, 0);
    struct rows rows = rows_new(GUARDED, 3);
    size_t len = ids_len(&column), cap = ROW * 3;
    char *out = signatures_of(&rows);
    EXPECT_REFUSED(NULL_POINTER, spike_auth_client_sign_users(NULL, column.ids, len, column.offsets, 3, out, cap,
                                                              statuses_of(&rows), err));
    EXPECT_REFUSED(NULL_POINTER, SIGN_USERS(NULL, len, column.offsets, 3));
    EXPECT_REFUSED(NULL_POINTER, SIGN_USERS(column.ids, len, NULL, 3));
    EXPECT_REFUSED(NULL_POINTER, SIGN_USERS_INTO(column.ids, len, column.offsets, 3, NULL, cap));
    EXPECT_REFUSED(NULL_POINTER, SIGN_USERS_INTO(column.ids, len, column.offsets, 3, NULL, 0));
    EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS(column.ids, SIZE_MAX, column.offsets, 3)); /* not a text */
    EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS_INTO(column.ids, len, column.offsets, 3, out, SIZE_MAX));
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++) {
        EXPECT_REFUSED(INVALID_ARGUMENT, SIGN_USERS(column.ids, IMPOSSIBLE_LENGTHS[i], column.offsets, 3));
        EXPECT_REFUSED(INVALID_ARGUMENT,
                       SIGN_USERS_INTO(column.ids, len, column.offsets, 3, out, IMPOSSIBLE_LENGTHS[i]));
    }
    rows_free(&rows);
}

static void a_client_that_is_closed_or_has_no_key_writes_nothing(void)
{
    struct column column = column_of(9, 1);
    struct rows rows = rows_new(GUARDED, 9);
    spike_auth_client *good = client;
    spike_auth_config *config = NULL;
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_application_id(config, "1", 1, NULL), 0);
    CHECK_STATUS(spike_auth_config_set_base_url(config, "http://127.0.0.1:1", NUL_TERMINATED, NULL), 0);
    client = client_of(config);
    EXPECT_REFUSED(KEY_REQUIRED, SIGN_USERS(column.ids, ids_len(&column), column.offsets, 9));
    spike_auth_client_free(client);
    client = client_of(new_config("http://127.0.0.1:1"));
    spike_auth_client_close(client);
    EXPECT_REFUSED(CLOSED, SIGN_USERS(column.ids, ids_len(&column), column.offsets, 9));
    spike_auth_client_free(client);
    client = good;
    rows_free(&rows);
}

int main(void)
{
    client = client_of(new_config("http://127.0.0.1:1"));
    RUN(every_count_around_the_batch_is_signed);
    RUN(every_mixture_of_good_and_bad_in_a_batch_and_one_more);
    RUN(random_mixtures_in_many_batches);
    RUN(a_slice_of_a_column_starts_and_ends_inside_it);
    RUN(offsets_and_statuses_need_no_alignment);
    RUN(the_statuses_may_be_null);
    RUN(zero_ids_need_no_pointers);
    RUN(empty_ids_are_bad_ids_also_in_a_null_column);
    RUN(nothing_is_written_beyond_the_rows);
    RUN(malformed_and_falling_offsets_are_refused_at_every_place);
    RUN(offsets_beyond_the_ids_are_refused);
    RUN(an_impossible_count_is_refused_before_an_offset_is_read);
    RUN(one_byte_too_little_is_too_small);
    RUN(each_pointer_is_required_and_each_length_checked);
    RUN(a_client_that_is_closed_or_has_no_key_writes_nothing);
    spike_auth_client_free(client);
    return check_summary();
}
