#ifndef C_OT_KERNELS_H
#define C_OT_KERNELS_H
#endif
