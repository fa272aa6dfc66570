>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"from":"0x9fbc26dded942b13318eda89513b51314a446b16","gas":"0x5207","to":"0xe0642646f1c7b36fb8968e11a6eea093ca31e7cf"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"err: intrinsic gas too low: have 20999, want 21000 (supplied gas 20999)"}}
