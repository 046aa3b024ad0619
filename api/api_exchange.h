/* Inside api/ only: one exchange, from the headers of a request to the end of its answer. */
#ifndef API_EXCHANGE_H
#define API_EXCHANGE_H

#include <microhttpd.h>

/* libmicrohttpd's handler: called for the headers, for each piece of the body, at its end. */
enum MHD_Result api_exchange_run(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **request_context);
/* The exchange has ended, well or not: counts it, logs it, frees the request. */
void api_exchange_completed(void *cls, struct MHD_Connection *connection, void **request_context,
                            enum MHD_RequestTerminationCode why);

#endif
