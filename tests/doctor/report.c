/* Stands before the library: spike_auth_client_diagnose() hands out the file that REPORT names, as far as it fits. */
#include <spike_auth.h>

#include <stdio.h>
#include <stdlib.h>

spike_auth_status_t spike_auth_client_diagnose(const spike_auth_client *client, const char *user_id, size_t user_id_len,
                                               const spike_auth_call *call, char *report, size_t report_cap,
                                               size_t *report_len, spike_auth_error *err)
{
    (void)client, (void)user_id, (void)user_id_len, (void)call, (void)err;
    FILE *file = fopen(getenv("REPORT"), "rb");
    if (!file)
        return SPIKE_AUTH_STATUS_INTERNAL;
    *report_len = fread(report, 1, report_cap - 1, file);
    report[*report_len] = '\0';
    fclose(file);
    return SPIKE_AUTH_STATUS_OK;
}
