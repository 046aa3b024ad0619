/* /v1/models: names, their versions, and the artifacts of the newest version that passed. */
#ifndef API_MODELS_H
#define API_MODELS_H

#include "api/api_route.h"

struct api_route_table api_models_routes(void);

/* Number of a version in a path: 1 to 18 digits, not 0. QD_INVALID. */
QD_MUST_CHECK enum qd_code api_version_parse(const char *text, int64_t *ret,
                                             struct qd_error *err);

#endif
