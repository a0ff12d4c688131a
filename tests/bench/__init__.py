"""Side-by-side benchmarks: tined and its peers in one run, compared as ratios. Started by scripts/bench.

cli        arguments, the order of things, exit status
provision  peers from Debian's packages, a release build of tined, the C programs here
servers    tined, nginx, h2o, epoll, Node's ws: configured alike, serving the same paths
processes  what /proc knows of them: CPU time, memory, descriptors, connections
client     raw sockets: one request, many connections, keep-alive clients that check every answer
wrk        one load, its own counts, its errors
compare    the same load on several servers in turn
latency    how long tiny requests take meanwhile (latency.c)
throttle   a slow disk for one server
rows       results, their bars, how they are printed
http, websocket, slow, stalled, cold, fairness, crash, reload, memory, hub
           a benchmark each: run(options) returns rows
"""
