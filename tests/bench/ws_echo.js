// PORT - the npm package ws with its default settings: messages come back as they came.
const http = require("http");
const { WebSocketServer } = require("ws");

const server = http.createServer((request, response) => response.end("Hello, World!"));
new WebSocketServer({ server }).on("connection", (ws) => {
  ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
});
server.listen(Number(process.argv[2]), "127.0.0.1", 1024);
