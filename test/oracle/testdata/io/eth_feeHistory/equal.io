>> {"jsonrpc":"2.0","id":1,"method":"eth_feeHistory","params":["0x1","latest",[10,10]]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"invalid reward percentile: #0:10.000000 \u003e= #1:10.000000"}}
