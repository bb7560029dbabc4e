/* device.h: the public handle of a device, for the engine's own files. */
#ifndef NM_ENGINE_DEVICE_H
#define NM_ENGINE_DEVICE_H

#include "device/npu.h"

nm_npu *nm_device_npu(npumoe_device *device);
/* A model's plan uses it, or no longer. */
void nm_device_hold(npumoe_device *device, bool hold);

#endif
