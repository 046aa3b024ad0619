/* Replays the corpus of frames and mutants of each from a fixed seed. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LLVMFuzzerTestOneInput fuzz_frame_one
#include "tests/fuzz/fuzz_frame.c"

#define CORPUS  "tests/fuzz/corpus/frame"
#define MUTANTS 300

static uint32_t state = 1;

static uint32_t next_random(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* In memory of exactly its size, so that a sanitizer sees reads past the end. */
static void run_one(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size + (size == 0));
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, data, size);
    ck_assert_int_eq(fuzz_frame_one(exact, size), 0);
    free(exact);
}

START_TEST(decoder_feed__corpus_and_mutants__no_crash)
{
    static const char likely[] = "{}[]\",:0-9.e\\";
    uint8_t data[4096], mutant[4096];
    int n_files = 0;
    DIR *dir = opendir(CORPUS);
    ck_assert_msg(dir != NULL, "run from the repository root: no " CORPUS);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char path[512];
        snprintf(path, sizeof(path), CORPUS "/%s", e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (f == NULL) {
            continue;
        }
        size_t size = fread(data, 1, sizeof(data), f);
        fclose(f);
        n_files++;
        run_one(data, size);
        for (int i = 0; i < MUTANTS; i++) {
            memcpy(mutant, data, size);
            for (uint32_t k = next_random() % 4 + 1; k > 0 && size > 0; k--) {
                uint32_t r = next_random();
                mutant[next_random() % size] =
                    (uint8_t)(r & 1 ? r >> 1 : (uint32_t)likely[r % (sizeof(likely) - 1)]);
            }
            run_one(mutant, next_random() % 4 == 0 ? next_random() % (size + 1) : size);
        }
    }
    closedir(dir);
    ck_assert_int_ge(n_files, 8);
}
END_TEST

Suite *test_worker_fuzz_suite(void)
{
    Suite *s = suite_create("worker_fuzz");
    TCase *t = tcase_create("corpus");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, decoder_feed__corpus_and_mutants__no_crash);
    suite_add_tcase(s, t);
    return s;
}
