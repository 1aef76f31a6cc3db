/* Stands before the library: spike_auth_client_diagnose() hands out the file that REPORT names. */
#include <spike_auth.h>

#include <stdio.h>
#include <stdlib.h>

spike_auth_status_t spike_auth_client_diagnose(const spike_auth_client *client, const char *user_id, size_t user_id_len,
                                               const spike_auth_call *call, char *report, size_t report_cap,
                                               size_t *report_len, spike_auth_error *err)
{
    (void)client, (void)user_id, (void)user_id_len, (void)call, (void)err;
    FILE *file = fopen(getenv("REPORT"), "rb");
    fseek(file, 0, SEEK_END);
    size_t len = (size_t)ftell(file);
    *report_len = len;
    report[0] = '\0';
    if (len >= report_cap) {
        fclose(file);
        return SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL;
    }
    rewind(file);
    report[fread(report, 1, len, file)] = '\0';
    fclose(file);
    return SPIKE_AUTH_STATUS_OK;
}
