/* More and fewer workers while they serve. */
#pragma once

struct primary;

void scale_by(struct primary *p, int delta);
