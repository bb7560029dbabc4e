/* fuzz_plan.c: any bytes as a plan. Beyond not crashing: what is accepted passes nm_plan_check, is printed
 * and read again as the same text, and can be described. */
#include "moe/plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(bool fine)
{
    if (!fine)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    nm_plan *plan = NULL, *again = NULL;
    npumoe_error err;
    char *text = NULL, *second = NULL, *json = NULL;
    if (nm_plan_parse(nm_allocator_default(), (const char *)data, bytes, &plan, &err) !=
        NPUMOE_OK) {
        check(err.message[0] != '\0' && plan == NULL);
        return 0;
    }
    check(nm_plan_check(plan, &err) == NPUMOE_OK);
    check(nm_plan_print(plan, &text, &err) == NPUMOE_OK);
    check(nm_plan_parse(nm_allocator_default(), text, strlen(text), &again, &err) == NPUMOE_OK);
    check(nm_plan_print(again, &second, &err) == NPUMOE_OK && strcmp(text, second) == 0);
    check(npumoe_plan_describe(text, strlen(text), &json, &err) == NPUMOE_OK);
    npumoe_text_free(&text);
    npumoe_text_free(&second);
    npumoe_text_free(&json);
    nm_plan_free(&plan);
    nm_plan_free(&again);
    return 0;
}
