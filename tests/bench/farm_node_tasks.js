// The tasks of farm_node.js: as worker-farm calls them, and as piscina does.
'use strict';
exports.callback = (n, done) => done(null, n);
exports.direct = (n) => n;
