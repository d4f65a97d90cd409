#ifndef OT_BUILD_H
#define OT_BUILD_H

/// The commit that a package was built from, as scripts/package says; empty for a build of one's own.
const char *ot_build(void);

#endif
