#include "ot_build.h"

// A file of its own: another commit compiles nothing else anew.
#ifndef OTQ_BUILD
#define OTQ_BUILD ""
#endif

const char *ot_build(void) { return OTQ_BUILD; }
