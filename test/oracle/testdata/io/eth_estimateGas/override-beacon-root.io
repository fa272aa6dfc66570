>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"from":"0x9fbc26dded942b13318eda89513b51314a446b16","to":"0x000000000000000000000000000000000000c0de"},"latest",{},{"beaconRoot":"0x0100000000000000000000000000000000000000000000000000000000000000"}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"block override \"beaconRoot\" is not supported for this RPC method"}}
