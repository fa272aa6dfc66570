>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"input":"0x50"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"stack underflow (0 \u003c=\u003e 1)"}}
