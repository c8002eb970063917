// WRITE_ZEROES and DISCARD of any length, in pieces that a volume takes.
#ifndef WEIR_VOLUME_HOST_LONG_REQUEST_H_
#define WEIR_VOLUME_HOST_LONG_REQUEST_H_

#include <memory>

#include "volume/host/host.h"
#include "volume/host/submit_gate.h"

namespace weir::host {

// As HostedVolume::Submit. A WRITE_ZEROES or DISCARD longer than
// kRequestBytesMax runs piece after piece and ends with the first error, so
// other requests find room in between. Its whole range is checked first.
// Every piece passes `gate`, if there is one; once that is closed no further
// piece is submitted, and the answer is ECANCELED.
void SubmitAnyLength(const std::shared_ptr<HostedVolume>& volume,
                     IoRequest request, IoCallback done,
                     std::shared_ptr<SubmitGate> gate = nullptr);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_LONG_REQUEST_H_
