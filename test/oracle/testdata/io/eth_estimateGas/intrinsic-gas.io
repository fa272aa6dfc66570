>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"from":"0x9fbc26dded942b13318eda89513b51314a446b16","gas":"0x5207","to":"0xe0642646f1c7b36fb8968e11a6eea093ca31e7cf"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x5208"}
