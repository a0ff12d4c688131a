"""Side-by-side benchmarks: tined and its peers in one run, compared as ratios. Started by scripts/bench.

cli        arguments, the order of things, exit status
provision  peers from Debian's packages, a release build of tined, the C programs here
servers    tined, nginx, h2o, epoll: configured alike, serving the same paths
processes  what /proc knows of them: CPU time, memory, descriptors, connections
client     raw sockets: one request, many connections, keep-alive clients that check every answer
wrk        one load, its own counts, its errors
rows       results, their bars, how they are printed
http, fairness, crash, reload, memory
           a benchmark each: run(options) returns rows
"""
