#include "COTKernels.h"
