/* Operations: /livez, /readyz, /metrics, /v1/info, /openapi.json, and the dashboard's files. */
#ifndef API_ADMIN_H
#define API_ADMIN_H

#include "api/api_route.h"

struct api_route_table api_admin_routes(void);
/* "/" and "/dashboard/{file}", from the files that the binary carries. */
struct api_route_table api_dashboard_routes(void);

#endif
