// One HTTP request, for tests.
#ifndef WEIR_PROTO_MONITOR_HTTP_GET_H_
#define WEIR_PROTO_MONITOR_HTTP_GET_H_

#include <string>

namespace weir::monitor {

// The whole answer, its head too, from HOST:PORT; empty: there is none. Blocks.
std::string HttpGet(const std::string& address, const std::string& path, const std::string& method = "GET");

}  // namespace weir::monitor

#endif  // WEIR_PROTO_MONITOR_HTTP_GET_H_
